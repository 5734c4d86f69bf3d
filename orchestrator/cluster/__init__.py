"""Runs on Ray clusters: what the machine that submits asks, what the head does, what the nodes have."""
