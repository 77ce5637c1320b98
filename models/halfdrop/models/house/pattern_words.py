"""What designers ask for and the house model has not, and what comes nearest to it among the things it draws.

Written by hand: sentence embeddings put 'crimson' hardly nearer to 'red' than another colour, and nobody can foretell
what they read. Words without anything near stand in NOTHING_NEAR: they are left out, and never taken for a slip of the
pen ('cats' are no 'dots', 'crowns' not 'brown').
"""

from __future__ import annotations

_NEAREST = {
    "daisies": "sunflower marigold gerbera chrysanthemum aster camomile chamomile dandelion echinacea coneflower dahlia"
    " zinnia marguerite cosmos rudbeckia edelweiss",
    "blossoms": "rose peony poppy hibiscus anemone camellia carnation buttercup pansy primrose petunia hydrangea"
    " magnolia orchid jasmine bloom sakura plumeria frangipani geranium flora bouquet cornflower gardenia begonia"
    " azalea ranunculus lotus waterlily cherryblossom rosebud garden millefleur",
    "tulips": "lily crocus iris daffodil snowdrop bluebell hyacinth bud snapdragon foxglove",
    "flower sprigs": "wildflower twig branch herb posy thistle heather sprout seedling meadow liberty",
    "leaves": "palm fern monstera foliage frond ivy oak maple laurel acanthus bamboo jungle tropical botanical botanic"
    " vine greenery feather willow ginkgo holly mistletoe clover plant grass seaweed philodendron banana autumn",
    "cherries": "berry blueberry cranberry currant apple fruit strawberry plum",
    "dots": "bubble pea ball confetti bead pearl bobble pompom sprinkle speck pinspot coin button",
    "rings": "hoop loop donut doughnut bangle target halo wheel",
    "stars": "starburst asterisk sparkle starfish constellation galaxy twinkle starlight",
    "hearts": "love valentine",
    "diamonds": "rhombus rhomb gem jewel kite",
    "squares": "cube box block pixel",
    "moons": "lunar",
    "suns": "sunshine sunrise sunray sunset sunny",
    "clouds": "cloudy sky",
    "raindrops": "rain tear droplet drip dew drizzle shower",
    "fish": "goldfish koi shark whale dolphin sardine carp tuna minnow",
    "mushrooms": "fungus fungi shroom champignon",
    "snowflakes": "snow frost winter",
    "stripes": "band bar ribbon deckchair awning breton ticking candystripe rail streak",
    "pinstripes": "hairline chalkstripe",
    "checkerboard": "chess damier",
    "gingham": "vichy buffalo picnic tablecloth",
    "plaid": "madras scottish flannel highland lumberjack glencheck kilt",
    "windowpane": "tattersall graph",
    "houndstooth": "dogtooth pieddepoule",
    "basket weave": "wicker rattan woven caning basket",
    "herringbone": "parquet tweed twill",
    "argyle": "argyll",
    "harlequin": "jester",
    "chevron": "vee arrow flamestitch",
    "waves": "ripple squiggle swirl curve ocean river water sea",
    "hexagons": "beehive hive hexagonal",
    "scallops": "seigaiha fishscale mermaid clamshell fan deco scalloped shell",
    "ogee": "quatrefoil damask moroccan arabesque baroque rococo brocade",
    "triangles": "triangular pyramid mountain tent bunting",
    "trellis": "fence net mesh ironwork fretwork",
    "terrazzo": "granite mosaic shard pebble",
    "marble": "marbled agate quartz",
    "zebra stripes": "tiger",
    "leopard spots": "cheetah jaguar ocelot animal",
    "camouflage": "army military woodland",
    "blobs": "amoeba puddle splash splatter splodge dalmatian cow",
    "paisley": "boteh persian kashmir",
}
"""What is drawn instead, and the words that it is drawn for, singular."""

_NOTHING_NEAR = """
cat kitten dog puppy bird parrot toucan flamingo swan duck goose owl robin hen chicken rooster peacock crane heron crow
raven sparrow swallow eagle penguin butterfly moth bee bumblebee ladybird ladybug beetle bug insect ant spider dragonfly
snail frog turtle snake lizard crocodile dinosaur dragon unicorn horse pony donkey pig sheep lamb goat bull deer stag
elk moose fox wolf bear panda koala rabbit bunny hare mouse rat squirrel hedgehog badger otter beaver elephant lion
monkey gorilla giraffe hippo rhino camel kangaroo llama alpaca sloth crab lobster shrimp octopus squid jellyfish
seahorse seal lemon lime orange pear peach grape pineapple watermelon mango kiwi avocado carrot tomato pepper chilli
onion garlic pumpkin corn potato nut acorn pinecone pine cactus succulent tree forest vase pot cup mug teapot
bottle glass plate spoon fork knife cake cupcake cookie biscuit candy sweet lollipop icecream pizza burger bread cheese
egg car truck bus bike bicycle boat ship yacht anchor plane rocket train balloon umbrella house castle tower bridge city
window door chair lamp book pencil pen clock watch key lock crown hat shoe boot dress shirt glove sock bow
tie flag drum guitar piano note music letter alphabet number word face eye hand foot skull bone ghost witch
bat robot alien planet earth saturn globe map fire flame lightning thunder volcano island beach girl boy man
woman people person baby angel fairy knight king queen bell present gift candle lantern reindeer santa
christmas halloween easter birthday wedding game gun sword shield roof wall brick road
cane crest crown clown dice card coat goal grove heat hood horn lace lamb lane lantern
vintage retro modern elegant cute playful minimalist minimal boho bohemian scandinavian nordic japanese chinese indian
african mexican french english victorian georgian folk ethnic tribal gothic luxury classic contemporary whimsical
romantic rustic shabby watercolour watercolor painted handdrawn sketch sketchy doodle linocut woodcut engraved
etched embroidered metallic glitter shiny matte textured grunge distressed neon ombre gradient rainbow multicolour
multicolor colourful colorful batik ikat toile chintz suzani shibori kilim
"""

NEAREST = {word: thing for thing, words in _NEAREST.items() for word in words.split()}
"""Singular word, and the thing that is drawn for it, in words of the grammar."""

NOTHING_NEAR = frozenset(_NOTHING_NEAR.split()) - NEAREST.keys()
"""Singular words that have nothing near: left out."""
