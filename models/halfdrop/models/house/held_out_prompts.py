"""Prompts as designers type them, with what each should give: put down before training, never trained on.

Where a prompt leaves a colour open ('' or no entry) any answer is right. Long because it is a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOutPrompt:
    """A prompt, and what its picture must show."""

    text: str
    kind: str
    """As in KIND_NAMES."""
    ground: str
    """A name of COLOURS_255, or '#rrggbb' where the prompt gives one; '' where it leaves the ground to the model."""
    colours: dict[str, str] = field(default_factory=dict)
    """By role: 'body' ('body 2' and 'body 3' of a kind in several colours), then details by the words of `present`."""
    present: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    """Details denied, or not asked for of a kind that is drawn with and without."""
    layout: str = "straight"
    units: int = 4


def _ask(
    text: str,
    kind: str,
    ground: str,
    *bodies: str,
    absent: tuple[str, ...] = (),
    layout: str = "straight",
    units: int = 4,
    **details: str,
) -> HeldOutPrompt:
    """Return a prompt; a detail is given by its word, `_` for a space, with its colour or '' where that is open."""
    roles = {"body" if place == 1 else f"body {place}": colour for place, colour in enumerate(bodies, start=1)}
    named = {word.replace("_", " "): colour for word, colour in details.items()}
    return HeldOutPrompt(
        text=text,
        kind=kind,
        ground=ground,
        colours=roles | {word: colour for word, colour in named.items() if colour},
        present=tuple(named),
        absent=absent,
        layout=layout,
        units=units,
    )


HELD_OUT_PROMPTS: tuple[HeldOutPrompt, ...] = (
    # Dots and plain geometry.
    _ask("small coral polka dots on navy, half-drop", "dots", "navy", "coral", layout="half-drop", units=6),
    _ask("Cobalt spots, ecru background, no outline", "dots", "cream", "blue", absent=("outline",)),
    _ask("white dots outlined in black on a sage ground", "dots", "sage", "white", outline="black"),
    _ask("charcoal dots with a lime dot inside on peach", "dots", "peach", "charcoal", dots_inside="lime"),
    _ask("Polka dots in mustard and burgundy", "dots", "burgundy", "mustard"),
    _ask("#ff8800 dots on #102030", "dots", "#102030", "#ff8800", absent=("outline", "dots inside")),
    _ask("teal rings on blush pink", "rings", "pink", "teal"),
    _ask("gold circles with navy dots inside, cream background", "rings", "cream", "gold", dots_inside="navy"),
    _ask("ivory rings without dots inside on denim blue", "rings", "denim", "cream", absent=("dots inside",)),
    _ask("large gold stars on midnight blue", "stars", "navy", "gold", units=2),
    _ask("a seamless pattern of six-pointed silver stars on purple", "stars", "purple", "silver"),
    _ask("eight-pointed white stars outlined in red, navy ground", "stars", "navy", "white", outline="red"),
    _ask("tilted yellow stars on royal blue, no outline", "stars", "blue", "yellow", absent=("outline",)),
    _ask("sparse magenta stars on black", "stars", "black", "magenta"),
    _ask("stars in #d4af37 on forest green", "stars", "forest green", "#d4af37"),
    _ask("tiny crimson hearts on ivory", "hearts", "cream", "red", units=8),
    _ask("blush hearts with a burgundy outline on white", "hearts", "white", "pink", outline="burgundy"),
    _ask("hearts, red and lavender, without outline", "hearts", "lavender", "red", absent=("outline",)),
    _ask("hollow white hearts on hot pink", "hearts", "magenta", "white"),
    _ask("plus signs in black on mint green, brick repeat", "pluses", "mint", "black", layout="brick"),
    _ask("rust plus shapes outlined in cream on teal", "pluses", "teal", "rust", outline="cream"),
    _ask("orange x shapes on grey", "crosses", "grey", "orange"),
    _ask("Lavender x crosses, purple background, no outline", "crosses", "purple", "lavender", absent=("outline",)),
    _ask("emerald diamonds on silver, half drop", "diamonds", "silver", "green", layout="half-drop"),
    _ask("mustard lozenges with white outline on charcoal", "diamonds", "charcoal", "mustard", outline="white"),
    _ask("brown squares with tan dots inside on beige", "squares", "beige", "brown", dots_inside="tan"),
    _ask("turquoise squares on coral", "squares", "coral", "turquoise"),
    # The garden.
    _ask("white daisies with yellow centres on sky blue", "daisies", "sky blue", "white", centres="yellow"),
    _ask("small daisy flowers, peach on olive, orange centres", "daisies", "olive", "peach", centres="orange", units=6),
    _ask("daisies without leaves on terracotta", "daisies", "rust", absent=("leaves",)),
    _ask("magenta blossoms with gold centres on forest green", "blossoms", "forest green", "magenta", centres="gold"),
    _ask("navy background with ditsy coral flowers", "blossoms", "navy", "coral", units=8),
    _ask(
        "five-petal flowers in lilac on charcoal with lime centres", "blossoms", "charcoal", "lavender", centres="lime"
    ),
    _ask("sage leaves with forest green veins on cream", "leaves", "cream", "sage", veins="forest green"),
    _ask("olive leaves on blush, no veins", "leaves", "pink", "olive", absent=("veins",)),
    _ask("leaves with white veins, teal on mustard", "leaves", "mustard", "teal", veins="white"),
    _ask("Emerald leaf print, white background, without veins", "leaves", "white", "green", absent=("veins",)),
    _ask("burgundy paisley on tan, half-drop repeat", "paisley", "tan", "burgundy", layout="half-drop"),
    _ask("turquoise paisley with coral inner shape on navy", "paisley", "navy", "turquoise", inner_shape="coral"),
    _ask("paisley drops in gold on purple, no inner shape", "paisley", "purple", "gold", absent=("inner shape",)),
    _ask(
        "coral sprigs with sage leaves and mustard centres on white",
        "sprigs",
        "white",
        "coral",
        leaves="sage",
        centres="mustard",
    ),
    _ask("lavender flower sprigs on navy with mint leaves", "sprigs", "navy", "lavender", leaves="mint"),
    _ask("crimson tulips with green leaves on pale yellow", "tulips", "cream", "red", leaves="green"),
    _ask(
        "purple tulips on lime, forest green leaves, third drop",
        "tulips",
        "lime",
        "purple",
        leaves="forest green",
        layout="drop",
        units=3,
    ),
    _ask("upside-down orange tulips with olive leaves on sky blue", "tulips", "sky blue", "orange", leaves="olive"),
    _ask("ruby cherries with dark green stems on baby pink", "cherries", "pink", "red", stems="forest green"),
    _ask("burgundy cherry pairs on cream", "cherries", "cream", "burgundy", stems=""),
    # Pictures.
    _ask("cream moons on indigo, no stars", "moons", "navy", "cream", absent=("stars",)),
    _ask("silver crescent moons with gold stars on black", "moons", "black", "silver", stars="gold"),
    _ask("crescents, mustard on teal, brick layout", "moons", "teal", "mustard", layout="brick"),
    _ask("orange suns on turquoise", "suns", "turquoise", "orange"),
    _ask("yellow suns with rust centres on white", "suns", "white", "yellow", centres="rust"),
    _ask("sunbursts in gold on burgundy without centres", "suns", "burgundy", "gold", absent=("centres",)),
    _ask("white clouds on denim", "clouds", "denim", "white"),
    _ask("pink clouds outlined in navy on mint", "clouds", "mint", "pink", outline="navy"),
    _ask("aqua raindrops on charcoal", "raindrops", "charcoal", "turquoise"),
    _ask("drops in cobalt with white dots inside on peach", "raindrops", "peach", "blue", dots_inside="white"),
    _ask("coral fish with white eyes on teal", "fish", "teal", "coral", eyes="white"),
    _ask("large silver fish on navy, half-drop", "fish", "navy", "silver", eyes="", layout="half-drop", units=2),
    _ask(
        "red toadstools with cream spots and tan stems on sage", "mushrooms", "sage", "red", spots="cream", stems="tan"
    ),
    _ask("brown mushrooms with peach spots on white", "mushrooms", "white", "brown", spots="peach", stems=""),
    _ask("white snowflakes on scarlet", "snowflakes", "red", "white"),
    _ask("ice blue snowflakes, purple ground", "snowflakes", "purple", "sky blue"),
    # From the loom.
    _ask("navy and white vertical stripes", "stripes", "white", "navy"),
    _ask("wide horizontal stripes in coral and cream", "stripes", "cream", "coral"),
    _ask("thin diagonal teal stripes on peach", "stripes", "peach", "teal"),
    _ask("navy, coral and cream stripes", "stripes", "cream", "navy", "coral"),
    _ask("#8a2be2 and #fffff0 vertical stripes", "stripes", "#fffff0", "#8a2be2"),
    _ask("white pinstripes on charcoal", "pinstripes", "charcoal", "white"),
    _ask("lavender pinstripes, midnight ground", "pinstripes", "navy", "lavender"),
    _ask("pink and brown checkerboard", "checkerboard", "brown", "pink"),
    _ask("lime checks on black", "checkerboard", "black", "lime"),
    _ask("harlequin in magenta and gold", "harlequin", "gold", "magenta"),
    _ask("emerald harlequin diamonds on ivory", "harlequin", "cream", "green"),
    _ask("red and white gingham", "gingham", "white", "red"),
    _ask("small sage gingham check on cream", "gingham", "cream", "sage", units=6),
    _ask("#2f4f4f gingham on white", "gingham", "white", "#2f4f4f"),
    _ask("forest green and red tartan plaid on navy", "plaid", "navy", "forest green", "red"),
    _ask("denim and white plaid on tan", "plaid", "tan", "denim", "white"),
    _ask("navy windowpane check on beige", "windowpane", "beige", "navy"),
    _ask("rust grid lines on cream", "windowpane", "cream", "rust"),
    _ask("brown houndstooth on tan", "houndstooth", "tan", "brown"),
    _ask("Houndstooth check, purple and silver", "houndstooth", "silver", "purple"),
    _ask("mustard basket weave on brown", "basketweave", "brown", "mustard"),
    _ask("grey basketweave, white background", "basketweave", "white", "grey"),
    _ask("olive herringbone on beige", "herringbone", "beige", "olive"),
    _ask("herringbone weave in burgundy and pink", "herringbone", "pink", "burgundy"),
    _ask("teal argyle with gold lines on navy", "argyle", "navy", "teal", lines="gold"),
    _ask("argyle diamonds in pink on charcoal with white lines", "argyle", "charcoal", "pink", lines="white"),
    # Tilings.
    _ask("orange chevron on navy", "chevron", "navy", "orange"),
    _ask("chevron zigzag in sage and white", "chevron", "white", "sage"),
    _ask("aqua waves on ivory", "waves", "cream", "turquoise"),
    _ask("wavy stripes, red and pink", "waves", "pink", "red"),
    _ask("yellow honeycomb on black, no dots inside", "hexagons", "black", "yellow", absent=("dots inside",)),
    _ask("mint hexagons with rust dots inside on white", "hexagons", "white", "mint", dots_inside="rust"),
    _ask("teal fish scales on cream", "scallops", "cream", "teal"),
    _ask("pink scallops nested with gold on burgundy", "scallops", "burgundy", "pink", inner_shape="gold"),
    _ask("gold ogee on forest green", "ogee", "forest green", "gold"),
    _ask("sapphire ogee medallions with white inner shape on silver", "ogee", "silver", "blue", inner_shape="white"),
    _ask("black triangles on coral", "triangles", "coral", "black"),
    _ask("geometric triangles in denim and peach", "triangles", "peach", "denim"),
    _ask("white trellis on emerald green", "trellis", "green", "white"),
    _ask("brown lattice on sky blue without knots", "trellis", "sky blue", "brown", absent=("nodes",)),
    # Without a ruler.
    _ask("pink, teal and mustard terrazzo on white", "terrazzo", "white", "pink", "teal", "mustard"),
    _ask("terrazzo chips in rust, navy and sage on cream", "terrazzo", "cream", "rust", "navy", "sage"),
    _ask("grey, charcoal and black camo on silver", "camouflage", "silver", "grey", "charcoal", "black"),
    _ask("olive, tan and brown camouflage on beige", "camouflage", "beige", "olive", "tan", "brown"),
    _ask("coral blobs on lavender", "blobs", "lavender", "coral"),
    _ask("abstract blobs in navy nested with lime on white", "blobs", "white", "navy", inner_shape="lime"),
    _ask("black and gold marble veins on white", "marble", "white", "black", "gold"),
    _ask("white and silver marble on charcoal", "marble", "charcoal", "white", "silver"),
    _ask("black and white zebra print", "zebra", "white", "black"),
    _ask("magenta zebra stripes on lime, mirror repeat", "zebra", "lime", "magenta", layout="mirror"),
    _ask("brown leopard print with black rings on tan", "leopard", "tan", "brown", rings="black"),
    _ask("leopard spots in mustard on pink ringed in burgundy", "leopard", "pink", "mustard", rings="burgundy"),
    # Denied, and of one colour that is only denied.
    _ask(
        "plain navy hearts on white, no outline, not red", "hearts", "white", "navy", absent=("outline", "dots inside")
    ),
    _ask("teal stars on peach, no navy", "stars", "peach", "teal"),
    _ask("leafless white daisies on lavender", "daisies", "lavender", "white", absent=("leaves",)),
    _ask("veinless gold leaves on brown", "leaves", "brown", "gold", absent=("veins",)),
    _ask("outline-free purple raindrops on yellow", "raindrops", "yellow", "purple", absent=("outline",)),
    _ask(
        "yellow ground, black diamonds w/o outline or dots inside",
        "diamonds",
        "yellow",
        "black",
        absent=("outline", "dots inside"),
    ),
)
"""All kinds, all colours, roles, negation, synonyms, long and short forms, hexadecimal colours."""
