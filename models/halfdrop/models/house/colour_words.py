"""What people call colours, and the name among ours that each means: plain synonyms and names of the trade.

Words that are as often a motif (rose, lemon, plum, cherry, sunflower) mean a colour only beside another colour's name.
"""

from __future__ import annotations

_SINGLE = {
    "white": "chalk alabaster",
    "cream": "ivory ecru eggshell vanilla buttermilk parchment offwhite oatmeal",
    "beige": "sand sandy linen stone fawn biscuit wheat champagne flax",
    "black": "ebony noir obsidian",
    "charcoal": "anthracite graphite gunmetal slate",
    "grey": "gray pewter ashen",
    "silver": "platinum silvery",
    "navy": "indigo midnight",
    "blue": "cobalt sapphire azure ultramarine cerulean lapis",
    "denim": "chambray",
    "skyblue": "periwinkle powderblue",
    "teal": "petrol",
    "turquoise": "aqua cyan aquamarine tiffany",
    "mint": "seafoam celadon pistachio spearmint minty",
    "sage": "eucalyptus lichen",
    "green": "emerald jade malachite viridian grassy",
    "forestgreen": "evergreen spruce",
    "olive": "khaki moss mossy",
    "lime": "chartreuse",
    "yellow": "lemony saffron citron",
    "mustard": "ochre ocher dijon turmeric mustardy",
    "gold": "golden brass bronze",
    "orange": "tangerine amber orangey",
    "rust": "terracotta sienna copper rusty",
    "brown": "chocolate coffee espresso mocha umber cocoa mahogany sepia",
    "tan": "camel caramel taupe latte buff toffee",
    "coral": "salmon",
    "red": "crimson scarlet vermilion vermillion ruby carmine cinnabar",
    "burgundy": "maroon claret wine oxblood bordeaux merlot garnet marsala",
    "pink": "blush rosy bubblegum",
    "magenta": "fuchsia fuschia cerise",
    "lavender": "lilac mauve wisteria heliotrope",
    "purple": "violet aubergine eggplant amethyst",
    "peach": "apricot peachy nude",
}
"""One word each; 'skyblue' and 'forestgreen' are the tokens of our two names of two words."""

_DOUBLE = {
    "white": "snow white, pure white, bright white, optical white, optic white",
    "cream": "off white, warm white, creamy white, antique white, winter white, pale cream, pale yellow, light yellow",
    "beige": "pale brown, sand beige, light tan, pale tan, stone beige",
    "black": "jet black, pitch black, true black",
    "charcoal": "dark grey, deep grey, slate grey, charcoal grey, charcoal black, iron grey",
    "grey": "mid grey, ash grey, dove grey, cool grey, warm grey, mouse grey, stone grey, medium grey",
    "silver": "light grey, pale grey, silver grey, pearl grey",
    "navy": "navy blue, dark blue, deep blue, midnight blue, ink blue, prussian blue, dark navy, oxford blue",
    "blue": "royal blue, cobalt blue, bright blue, electric blue, sapphire blue, ultramarine blue, true blue,"
    " azure blue, delft blue, medium blue, primary blue, china blue",
    "denim": "denim blue, steel blue, slate blue, dusty blue, french blue, airforce blue, stone blue, blue grey,"
    " grey blue, muted blue, wedgwood blue",
    "skyblue": "sky blue, baby blue, light blue, pale blue, powder blue, ice blue, duckegg blue, pastel blue,"
    " cornflower blue, soft blue, periwinkle blue",
    "teal": "dark teal, deep teal, teal blue, teal green, petrol blue, peacock blue, dark turquoise, dark cyan,"
    " blue green",
    "turquoise": "bright turquoise, turquoise blue, aqua blue, bright teal, light teal, tiffany blue, sea blue",
    "mint": "mint green, light green, pale green, pastel green, seafoam green, sea green, soft green, eaude nil,"
    " pistachio green, duckegg green",
    "sage": "sage green, dusty green, grey green, green grey, muted green, eucalyptus green, lichen green",
    "green": "bright green, kelly green, emerald green, grass green, leaf green, jade green, apple green, true green,"
    " medium green, primary green",
    "forestgreen": "forest green, dark green, bottle green, hunter green, pine green, deep green, racing green,"
    " evergreen green, spruce green",
    "olive": "olive green, moss green, army green, khaki green, military green, dark olive",
    "lime": "lime green, neon green, acid green, yellow green, chartreuse green",
    "yellow": "bright yellow, lemon yellow, sunny yellow, sunflower yellow, canary yellow, primary yellow, egg yellow,"
    " neon yellow, acid yellow, sunshine yellow",
    "mustard": "mustard yellow, dark yellow, ochre yellow, yellow ochre, deep yellow, dijon mustard",
    "gold": "old gold, antique gold, metallic gold, golden yellow, honey gold",
    "orange": "bright orange, neon orange, tangerine orange, amber orange, pumpkin orange",
    "rust": "burnt orange, dark orange, rust red, rust orange, brick red, terra cotta, burnt sienna, deep orange,"
    " brick orange, copper red, rust brown",
    "brown": "dark brown, deep brown, chocolate brown, coffee brown, chestnut brown, walnut brown, nut brown",
    "tan": "light brown, camel brown, tan brown, soft brown, sandy brown, caramel brown",
    "coral": "coral red, coral pink, salmon pink, light red, pale red, coral orange, pale coral",
    "red": "bright red, cherry red, tomato red, fire red, poppy red, blood red, lipstick red, true red, primary red,"
    " ruby red, crimson red, scarlet red, strawberry red, candy red",
    "burgundy": "dark red, wine red, deep red, burgundy red, maroon red, claret red",
    "pink": "light pink, pale pink, baby pink, dusty pink, dusty rose, rose pink, old rose, blush pink, soft pink,"
    " pastel pink, candy pink, bubblegum pink, shell pink, millennial pink, powder pink, ballet pink",
    "magenta": "hot pink, shocking pink, bright pink, neon pink, deep pink, dark pink, fuchsia pink, magenta pink",
    "lavender": "light purple, pale purple, pastel purple, soft purple, light violet, pale violet, lilac purple,"
    " dusty lavender, dusty lilac, soft lilac",
    "purple": "royal purple, dark purple, deep purple, plum purple, violet purple, bright purple, deep violet,"
    " imperial purple, dark violet",
    "peach": "light orange, pale orange, pastel orange, peach pink, soft peach, pale peach, rose gold, soft orange",
}

COLOUR_WORDS = {"gray": "grey"} | {word: name for name, words in _SINGLE.items() for word in words.split()}
"""One word for a colour, and our name for it as a token."""

COLOUR_PAIRS = {
    "terra cotta": "rust",
    "duck egg": "duckegg",
    "eau de": "eaude",
    **{pair.strip(): name for name, pairs in _DOUBLE.items() for pair in pairs.split(",")},
    **{pair.strip().replace("grey", "gray"): name for name, pairs in _DOUBLE.items() for pair in pairs.split(",")},
}
"""Two words for a colour, as they are written."""
