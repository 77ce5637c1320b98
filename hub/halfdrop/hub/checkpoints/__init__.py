"""Users' own checkpoints: any diffusers text-to-image directory of a UNet family, made seamless by construction.

Start reading at `drawing.open_checkpoint`. Never here: a download, a pickled file, a class named by a checkpoint that
`families` does not list.
"""
