"""The gates: one suite that measures any bundle, on prompts and combinations that its training never saw."""
