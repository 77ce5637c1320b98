"""The 24 prompts of docs/prompts-24.md: put down before training, drawn after it, never trained for."""

from __future__ import annotations

PROMPTS_24 = (
    "red polka dots on white",
    "navy and white vertical stripes",
    "black houndstooth on cream",
    "green and yellow tartan plaid on red",
    "pink blossoms with yellow centres on navy",
    "white daisies with mustard centres on forest green",
    "gold ogee nested with cream on burgundy",
    "teal paisley with gold inner shape on cream",
    "coral, teal and mustard terrazzo on white",
    "black and white checkerboard",
    "red hearts outlined in white on pink",
    "orange hexagons with cream dots inside on brown",
    "turquoise fish scales nested with navy on white",
    "forest green leaves with mint veins on beige",
    "gold eight-pointed stars on purple",
    "magenta flower sprigs with green leaves and yellow centres on cream",
    "olive, brown and black camouflage on tan",
    "grey and gold marble veins on white",
    "blue argyle with white lines on sky blue",
    "white wavy lines on teal",
    "white moons with yellow stars on navy",
    "crimson cherries with green stems on ivory",
    "red mushrooms with white spots and beige stems on mint",
    "blue and white gingham",
)
