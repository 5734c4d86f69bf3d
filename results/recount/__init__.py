"""The recount: how many bytes of text a score is over, counted from the shards by a decoder of its own."""
