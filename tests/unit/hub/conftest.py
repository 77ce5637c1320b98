"""Tiny checkpoints for the tests of this folder and those below it."""

from tiny_checkpoints import copy_of, sd_dir, sdxl_dir

__all__ = ["copy_of", "sd_dir", "sdxl_dir"]
