"""The forecaster's room. Empty until its issue is built: predicts demand in GPU-work, with quantiles."""
