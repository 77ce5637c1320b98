"""Pairs that must never be taken for each other, written by hand: near in words, apart in what they show."""

import pytest

from halfdrop.contracts.patterns import PatternRequest
from halfdrop.contracts.repeats import Repeat
from halfdrop.models.house.meaning import read_meaning
from halfdrop.models.house.meaning_roles import Meaning
from halfdrop.models.phrases import read_phrases

SWAPPED_ROLES = (
    ("red dots on white", "white dots on red"),
    ("red and white dots", "white and red dots"),
    ("navy background with white stars", "white background with navy stars"),
    ("on cream, teal leaves", "on teal, cream leaves"),
    ("dots in red on white", "dots in white on red"),
    ("dots, red and white", "dots, white and red"),
    ("red on white hearts", "white on red hearts"),
    ("red stars outlined in gold on navy", "gold stars outlined in red on navy"),
    ("red stars outlined in gold on navy", "red stars outlined in navy on gold"),
    ("white dots with red dots inside on navy", "red dots with white dots inside on navy"),
    ("navy, coral and cream stripes", "coral, navy and cream stripes"),
    ("navy, coral and cream stripes", "cream, coral and navy stripes"),
    ("green and red plaid on navy", "red and green plaid on navy"),
    ("pink, teal and mustard terrazzo on white", "teal, pink and mustard terrazzo on white"),
    ("white background, red dots", "red background, white dots"),
    (
        "coral sprigs with sage leaves and mustard centres on white",
        "coral sprigs with mustard leaves and sage centres on white",
    ),
    ("red mushrooms with white spots and tan stems on mint", "red mushrooms with tan spots and white stems on mint"),
    ("red, white and navy dots with outline", "red, navy and white dots with outline"),
    ("black and white zebra print", "white and black zebra print"),
    ("brown leopard print ringed in black on tan", "black leopard print ringed in brown on tan"),
)
NEGATIONS = (
    ("white daisies with leaves on navy", "white daisies without leaves on navy"),
    ("white daisies on navy", "leafless white daisies on navy"),
    ("red dots with outline on white", "red dots, no outline, on white"),
    ("red stars outlined in gold on white", "red stars without outline on white"),
    ("red dots on white, no navy", "red dots on white, no gold"),
    ("red dots on white with navy outline", "red dots on white, no navy"),
    ("gold leaves with veins on brown", "veinless gold leaves on brown"),
    ("gold leaves on brown, no veins", "gold leaves on brown, no stems"),
    ("red dots not on white", "red dots on white"),
    ("no red dots on white", "red dots on white"),
    ("anything but red dots on white", "red dots on white"),
    ("red dots instead of stars on white", "red stars instead of dots on white"),
    ("white dots on red, no outline or dots inside", "white dots on red, no outline"),
    ("hexagons in gold on black with no dots inside", "hexagons in gold on black with dots inside"),
    ("outline-free red hearts on white", "red hearts with outline on white"),
    ("red dots never white", "red and white dots"),
)
LAYOUTS = (
    ("red dots on white", "red dots on white, half-drop"),
    ("red dots on white, half-drop", "red dots on white, brick"),
    ("red dots on white, third drop", "red dots on white, quarter drop"),
    ("red dots on white, half drop by rows", "red dots on white, half-drop"),
    ("red dots on white, mirror repeat", "red dots on white"),
    ("small red dots on white", "large red dots on white"),
    ("tiny red dots on white", "small red dots on white"),
    ("vertical navy stripes on white", "horizontal navy stripes on white"),
    ("diagonal navy stripes on white", "navy stripes on white"),
    ("thin navy stripes on white", "wide navy stripes on white"),
    ("upside-down red tulips on white", "red tulips on white"),
    ("tilted red hearts on white", "red hearts on white"),
    ("sparse red hearts on white", "red hearts on white"),
    ("hollow red hearts on white", "red hearts on white"),
)
COUNTS = (
    ("five-pointed gold stars on navy", "six-pointed gold stars on navy"),
    ("eight-pointed gold stars on navy", "gold stars on navy"),
    ("three red dots on white", "two red dots on white"),
    ("a single red dot on white", "red dots on white"),
    ("lots of red dots on white", "a few red dots on white"),
    ("many red dots on white", "red dots on white"),
    ("red dots on white with two dots inside", "red dots on white with dots inside"),
)
DETAILS = (
    ("red dots on white", "red dots with dots inside on white"),
    ("red dots with dots inside on white", "red dots with outline on white"),
    ("gold ogee on navy", "gold ogee with inner shape on navy"),
    ("gold ogee nested with cream on navy", "gold ogee with cream dots inside on navy"),
    ("white trellis with gold knots on navy", "white trellis with gold dots inside on navy"),
    ("white moons with yellow stars on navy", "white moons and yellow stars on navy"),
    ("red cherries with green stems on white", "red cherries with green leaves on white"),
    ("white daisies with yellow centres on navy", "white daisies with orange centres on navy"),
    ("white dots outlined in red on navy", "white dots with outline on navy"),
    ("white dots on navy, outlined in red", "white dots on navy, red dots inside"),
    ("tulips in red with green leaves on white", "red tulips and green leaves on white"),
    ("red stars with small gold dots inside on white", "red stars with small gold outline on white"),
    ("light coral dots on white", "deep coral dots on white"),
    ("light blue dots on white", "dark blue dots on white"),
)
HEX_COLOURS = (
    ("#ff8800 dots on #102030", "#102030 dots on #ff8800"),
    ("#ff8800 dots on #102030", "#ff8801 dots on #102030"),
    ("#f80 dots on #123", "#f81 dots on #123"),
    ("#ff8800 dots on navy", "orange dots on navy"),
    ("light #2060c0 dots on white", "#2060c0 dots on white"),
    ("red dots on #ffffff", "red dots on white"),
)
TWO_MOTIFS = (
    ("red stars and blue dots on white", "blue stars and red dots on white"),
    ("red stars and blue dots on white", "blue dots and red stars on white"),
    ("red stars and dots on white", "red stars on white"),
    ("red stars and dots on white", "red stars and blue dots on white"),
    ("red stars and blue dots on white", "white stars and blue dots on red"),
    ("red stars with gold outline and blue dots on white", "red stars and blue dots with gold outline on white"),
    ("red, blue and white stars and dots", "blue, red and white stars and dots"),
    ("red stars and hearts on white", "red stars and moons on white"),
    ("tilted red stars and hearts on white", "red stars and tilted hearts on white"),
    ("red stars, blue dots on white", "blue stars, red dots on white"),
)
KINDS = (
    ("red dots on white", "red rings on white"),
    ("navy plaid on white", "navy gingham on white"),
    ("navy windowpane check on white", "navy gingham check on white"),
    ("navy checks on white", "navy stripes on white"),
    ("fish scales in navy on white", "navy fish on white"),
    ("zebra stripes in black on white", "black stripes on white"),
    ("red plus crosses on white", "red x crosses on white"),
    ("gold harlequin diamonds on navy", "gold diamonds on navy"),
    ("leopard spots in brown on tan", "brown spots on tan"),
    ("wavy navy lines on white", "navy grid lines on white"),
)
ALL = SWAPPED_ROLES + NEGATIONS + LAYOUTS + COUNTS + DETAILS + HEX_COLOURS + TWO_MOTIFS + KINDS


def understood(prompt: str) -> tuple[Meaning | None, Repeat]:
    read = read_phrases(PatternRequest(prompt=prompt).prompt)
    return read_meaning(read.prompt), read.repeat


@pytest.mark.parametrize(("first", "second"), ALL)
def test_prompts_that_show_something_else_never_share_a_meaning(first: str, second: str) -> None:
    one, other = understood(first), understood(second)
    assert one[0] is None or one != other


def test_most_of_these_prompts_are_read_so_that_the_list_proves_something() -> None:
    assert len(ALL) >= 60
    read = [understood(prompt)[0] is not None for pair in ALL for prompt in pair]
    assert sum(read) > 0.7 * len(read)
