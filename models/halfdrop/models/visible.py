"""What is seen of a stack of layers, as arithmetic on depths: no coverage, no pixels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Depths = NDArray[np.floating[Any]]


def visible_depths(depths: Depths) -> Depths:
    """Return [1 + layers, ...]: how deep each place lies in what is seen of the ground and of each layer.

    depths: [layers, ...], how deep it lies in each layer, whatever is above; the lowest first. Where nothing lies on
    the ground it is infinitely deep.
    """
    layers = len(depths)
    visible = np.empty((layers + 1, *depths.shape[1:]), depths.dtype)
    bare = np.full(depths.shape[1:], np.inf, depths.dtype)  # how far everything above is away
    for layer in reversed(range(layers)):
        np.minimum(depths[layer], bare, out=visible[layer + 1])
        np.minimum(bare, -depths[layer], out=bare)
    visible[0] = bare
    return visible
