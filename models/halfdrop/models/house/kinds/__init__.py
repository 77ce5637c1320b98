"""Procedural training data: every kind of pattern the house model is taught, drawn analytically."""
