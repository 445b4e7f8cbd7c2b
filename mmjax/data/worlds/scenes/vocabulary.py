"""The words of the scenes world: its objects by category, colours, sizes, places, relations and backgrounds.

Every word that a caption, a question or the checker uses is in this file. An object is an OpenMoji drawing
with a short plain name; names were chosen so that none means another's object ("police car" would be a car),
and drawings so that they can be told apart at 16 pixels.
"""

from __future__ import annotations

import dataclasses
import functools
import re

# code points of the drawing, name; "name|plural" where the rule for the plural fails; "name=synonym=..."
_OBJECTS = {
    "animal": """
        1F415 dog=puppy, 1F408 cat=kitten, 1F404 cow, 1F416 pig, 1F40E horse=pony, 1F407
        rabbit=bunny, 1F401 mouse|mice, 1F418 elephant, 1F992 giraffe, 1F993 zebra, 1F981 lion,
        1F43B bear, 1F43C panda, 1F428 koala, 1F98A fox, 1F412 monkey, 1F42A camel, 1F998 kangaroo,
        1F994 hedgehog, 1F438 frog, 1F422 turtle, 1F40D snake, 1F40A crocodile, 1F9A5 sloth, 1F98C
        deer|deer, 1F98D gorilla, 1F99B hippopotamus|hippopotamuses, 1F987 bat, 1F410 goat, 1F43F
        chipmunk""",
    "bird": """
        1F427 penguin, 1F989 owl, 1F99C parrot, 1F99A peacock, 1F9A2 swan, 1F9A9 flamingo, 1F986
        duck, 1F413 rooster, 1F985 eagle, 1F424 chick, 1F983 turkey, 1F54A dove""",
    "sea creature": """
        1F433 whale, 1F42C dolphin, 1F988 shark, 1F419 octopus, 1F980 crab, 1F99E lobster, 1F990
        shrimp, 1F991 squid, 1F41F fish|fish, 1F9AD seal, 1F421 blowfish|blowfish, 1F41A
        shell=seashell""",
    "insect": """
        1F41D bee, 1F98B butterfly, 1F41C ant, 1F577 spider, 1F40C snail, 1F41E ladybug=ladybird,
        1F982 scorpion, 1F41B caterpillar, 1F99F mosquito|mosquitoes""",
    "fruit": """
        1F34E apple, 1F350 pear, 1F34C banana, 1F34B lemon, 1F34A tangerine=mandarin, 1F353
        strawberry, 1F34D pineapple, 1F349 watermelon, 1F351 peach, 1F95D kiwi, 1F965 coconut, 1F348
        melon, 1F951 avocado, 1F96D mango""",
    "vegetable": """
        1F345 tomato|tomatoes, 1F346 eggplant=aubergine, 1F955 carrot, 1F952 cucumber, 1F954
        potato|potatoes, 1F344 mushroom, 1F383 pumpkin, 1F9C5 onion, 1F336 pepper=chilli""",
    "food": """
        1F355 pizza, 1F354 hamburger=burger, 1F32D hot dog, 1F32E taco, 1F968 pretzel, 1F950
        croissant, 1F956 baguette, 1F95A egg, 1F9C7 waffle, 1F96A sandwich, 1F9C1 cupcake=muffin,
        1F369 doughnut=donut, 1F36A cookie=biscuit, 1F382 cake, 1F967 pie, 1F36D lollipop, 1F368 ice
        cream, 1F36C candy=sweet, 1F96F bagel, 1F9C0 cheese, 1F359 rice ball""",
    "drink": """
        1FAD6 teapot, 1F375 cup, 1F377 wine glass, 1F37A beer mug, 1F37E bottle, 1F9C3 juice box,
        1F378 cocktail""",
    "vehicle": """
        1F697 car=automobile, 1F68C bus, 1F69A truck=lorry, 1F695 taxi=cab, 1F691 ambulance, 1F692
        fire engine=fire truck, 1F69C tractor, 1F6B2 bicycle=bike, 1F3CD motorcycle=motorbike, 1F6F4
        scooter, 1F686 train, 1F68A tram=streetcar, 2708 airplane=plane=aeroplane, 1F681 helicopter,
        1F680 rocket, 1F6A2 ship, 26F5 sailboat, 1F6F6 canoe, 1F6F9 skateboard, 1F6F8 flying
        saucer=ufo, 1F6F7 sled=sledge""",
    "tool": """
        1F528 hammer, 1F527 wrench=spanner, 1FA93 axe, 1FA9B screwdriver, 1F9F2 magnet, 1F511 key,
        1F52A knife|knives, 1FA9C ladder, 1F526 flashlight=torch, 1F9F9 broom, 1FAA3 bucket, 1F58C
        paintbrush, 270F pencil, 1F4CF ruler, 1F4CE paperclip, 1F4CC pushpin""",
    "piece of clothing": """
        1F455 shirt=t-shirt, 1F457 dress, 1F3A9 hat, 1F9E2 cap, 1F9E3 scarf|scarves, 1F9E5 coat,
        1F454 tie=necktie, 1F45F shoe=sneaker, 1F97E boot, 1F392 backpack=rucksack, 1F45C handbag,
        1F451 crown, 1F48D ring, 1F458 kimono, 26D1 helmet""",
    "sky object": """
        2600 sun, 2601 cloud, 1F319 moon, 2B50 star, 1F308 rainbow, 2744 snowflake, 1F32A
        tornado|tornadoes, 26A1 lightning bolt, 1FA90 planet, 2604 comet""",
    "plant": """
        1F333 tree, 1F334 palm, 1F335 cactus, 1F337 tulip, 1F339 rose, 1F33B sunflower, 1F340
        clover, 1F341 leaf|leaves, 1F331 seedling, 1F332 fir, 1F490 bouquet""",
    "instrument": """
        1F3B8 guitar, 1F3BB violin, 1F3BA trumpet, 1F941 drum, 1F3B7 saxophone, 1FA95 banjo, 1FA97
        accordion, 1F514 bell, 1F3A4 microphone""",
    "toy": """
        1F3C0 basketball, 26BD soccer ball, 1F3BE tennis ball, 1F3C8 football, 26BE baseball, 1F94A
        boxing glove, 1F3C6 trophy, 1F3C5 medal, 1FA81 kite, 1FA80 yo-yo, 1F3B2 die|dice, 1F388
        balloon, 1F9F8 teddy bear=teddy, 1F9E9 puzzle piece, 1F381 gift, 1F916 robot, 1F47B ghost,
        1F579 joystick""",
    "household item": """
        1FA91 chair, 1F6CF bed, 1F6C1 bathtub, 1F6BD toilet, 1F6AA door, 1FA9E mirror, 1FA9F window,
        1F56F candle, 1F4A1 light bulb, 23F0 clock=alarm clock, 1F4FA television=tv, 1F4F7 camera,
        260E telephone=phone, 1F4BB laptop, 1F4D5 book, 2709 envelope=letter, 1F512 lock=padlock,
        1F9FA basket, 1FAA5 toothbrush, 1F944 spoon, 1F50B battery, 1F4FB radio, 1F9ED compass, 231B
        hourglass, 2602 umbrella, 1F9EF fire extinguisher""",
    "building": """
        1F3E0 house, 1F3F0 castle, 26EA church, 1F3ED factory, 1F3E5 hospital, 26FA tent, 1F6D6 hut,
        1F3A1 ferris wheel, 26F2 fountain, 1F3D4 mountain, 1F30B volcano|volcanoes, 1F5FD statue""",
}

# What keeps company: the objects of a scene come mostly from the categories of one theme.
THEMES = (
    ("animal", "plant", "bird", "insect"),
    ("sea creature", "sky object", "vehicle"),
    ("fruit", "vegetable", "food", "drink"),
    ("vehicle", "building", "sky object"),
    ("tool", "household item", "piece of clothing"),
    ("toy", "instrument", "household item"),
)
BROADER = {"bird": "animal", "sea creature": "animal", "insect": "animal"}  # an insect is an animal too

COLOURS = {
    "red": (225, 45, 45), "orange": (245, 140, 30), "yellow": (250, 225, 60), "green": (60, 175, 70),
    "blue": (60, 110, 230), "purple": (140, 70, 190), "pink": (250, 150, 200), "gray": (160, 160, 160),
}  # fmt: skip
COLOUR_SYNONYMS = {"grey": "gray", "violet": "purple"}
SIZES = ("small", "large")
SIZE_SYNONYMS = {"little": "small", "tiny": "small", "big": "large", "huge": "large"}
PLACES = (
    "top left", "top", "top right",
    "left", "middle", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip  # row by row; the number of a place is 3 * row + column
PLACE_SYNONYMS = {
    "upper left": "top left", "upper right": "top right", "lower left": "bottom left",
    "lower right": "bottom right", "centre": "middle", "center": "middle",
    **{f"{place.replace(' ', '-')}": place for place in PLACES if " " in place},
}  # fmt: skip
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
RELATIONS = tuple(OPPOSITE)
RELATION_SYNONYMS = {
    "to the left of": "left of", "on the left of": "left of", "to the right of": "right of",
    "on the right of": "right of", "over": "above", "under": "below",
    "beneath": "below", "underneath": "below",
}  # fmt: skip
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# name -> the colours (top, horizon, ground) of its gradient
BACKGROUNDS = {
    "grass": ((150, 205, 245), (215, 235, 250), (135, 200, 105)),
    "sand": ((160, 215, 245), (235, 240, 235), (235, 210, 150)),
    "snow": ((175, 200, 225), (225, 232, 242), (246, 250, 253)),
    "water": ((200, 225, 245), (170, 215, 240), (80, 155, 215)),
    "night": ((20, 25, 60), (50, 50, 100), (75, 70, 115)),
    "brick": ((205, 140, 115), (200, 130, 105), (190, 120, 100)),
    "wood": ((210, 175, 130), (200, 160, 115), (190, 150, 105)),
    "paper": ((250, 248, 240), (247, 244, 236), (243, 240, 230)),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of object: `code` of its drawing, its name, plural, category and synonyms."""

    code: str
    name: str
    plural: str
    category: str
    synonyms: tuple[str, ...] = ()


def plural(name: str) -> str:
    """The regular plural: box -> boxes, berry -> berries, key -> keys."""
    if name.endswith(("s", "x", "ch", "sh", "z")):
        return name + "es"
    if name.endswith("y") and name[-2] not in "aeiou":
        return name[:-1] + "ies"
    return name + "s"


def article(noun: str) -> str:
    """The noun with its article: an owl, a dog."""
    return f"{'an' if noun.startswith(('a', 'e', 'i', 'o', 'u', 'hour')) else 'a'} {noun}"


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Every kind of object, category by category."""
    found = []
    for category, text in _OBJECTS.items():
        for entry in re.sub(r"\s+", " ", text.strip()).split(","):
            code, words = entry.split(maxsplit=1)
            names, _, irregular = words.partition("|")
            name, *synonyms = (word.strip() for word in names.split("="))
            found.append(
                Kind(
                    code=code, name=name, plural=irregular.strip() or plural(name), category=category,
                    synonyms=tuple(synonyms),
                )
            )  # fmt: skip
    return tuple(found)


@functools.cache
def chosen(count: int | None = None) -> tuple[Kind, ...]:
    """`count` kinds, as evenly over the categories as it goes; all of them for None."""
    if count is None:
        return kinds()
    by_category = [[kind for kind in kinds() if kind.category == name] for name in _OBJECTS]
    ranked = [kind for rank in range(len(kinds())) for of in by_category for kind in of[rank : rank + 1]]
    return tuple(sorted(ranked[:count], key=kinds().index))


@functools.cache
def by_name() -> dict[str, Kind]:
    """name -> kind."""
    return {kind.name: kind for kind in kinds()}


def categories() -> tuple[str, ...]:
    """The names of the categories."""
    return tuple(_OBJECTS)
