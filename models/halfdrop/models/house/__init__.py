"""The house model: layered signed-distance diffusion that draws one repeat unit as four plates.

Nothing here knows of layouts, sizes or files for print: the model draws a unit, arithmetic lays it.
`tokenizer` and `sampling` import no torch, so that an edge can draw without it.
"""
