"""The command `p2pl`: running, checking, listing, probing, predicting, importing."""
