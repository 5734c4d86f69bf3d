"""GPUs: what is asked for, what is there, where a run goes, and whether it is fit to be trained on."""
