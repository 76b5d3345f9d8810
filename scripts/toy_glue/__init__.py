"""The sentence templates of scripts/make_toy_glue.py."""
