"""Predicts demand in GPU-work, with quantiles, and turns it into a plan of warm GPUs. No clock, no client."""
