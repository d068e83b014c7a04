"""The words from which invented books are made. Names and publishers are invented, too."""


def _split(text: str) -> list[str]:
    return text.split("|" if "|" in text else None)


_FIRST_NAMES = _split(
    "Ada Amina Anselm Beatriz Bruno Celia Chidi Dagmar Dmitri Edda Elias Fatou Felix Greta Hideo Ines Ivo Jonna "
    "Kofi Leila Linnea Marek Mireille Nadia Nils Odile Oskar Pilar Quentin Rosalind Samir Saskia Tamsin Tomas "
    "Ulrike Viktor Wanda Yusuf"
)
_LAST_NAMES = _split(
    "Abernathy Achterberg Bellweather Brandvold Castellane Corvino Dunmore Eastlake Farrowby Galbreath Hartigan "
    "Ibarrola Jessop Kirkbride Lindqvist Marchetti Nakagawa Okonjo Pemberton Quillon Ravenscar Stavros Thornbury "
    "Ulvaeus Vandermeer Whitlock Yarborough Zielinski"
)
# Steps of 5 and 3 never combine the same two names twice: 300 different names.
AUTHORS = tuple(
    f"{_FIRST_NAMES[i * 5 % len(_FIRST_NAMES)]} {_LAST_NAMES[(i * 3 + i // 28) % len(_LAST_NAMES)]}" for i in range(300)
)
PUBLISHERS = _split(
    "Harbour & Quill|Lanternfish House|North Pier Press|Meridian Orchard|Tallgrass Editions|Copper Kettle Books|"
    "Saltmarsh Academic|Evenfall Publishing|Blue Heron Technical|Quarry Lane Press|Old Foundry Books|"
    "Winterbourne & Daughters"
)
ADJECTIVES = _split(
    "Silent Broken Golden Hidden Distant Forgotten Crimson Restless Hollow Patient Electric Borrowed Winter Quiet "
    "Gentle Burning Paper Salted Wandering Unfinished Northern Second Invisible Careful"
)
NOUNS = _split(
    "Garden River Archive Lighthouse Orchard Compass Harbour Mirror Machine Library Daughter Cartographer Winter "
    "Bridge Letter Engine Island Clockmaker Forest Republic Violin Witness Kingdom Algorithm Season Museum Tide "
    "Inheritance"
)
SUBJECTS = _split(
    "Fiction|Historical Fiction|Mystery|Science Fiction|Fantasy|Romance|Biography|History|Science|Mathematics|"
    "Computers|Philosophy|Psychology|Travel|Cooking|Art|Music|Poetry|Economics|Juvenile Fiction|Nature|Religion|"
    "Education|Engineering"
)
TITLES = (
    "The {adjective} {noun}",
    "{noun} of the {adjective} {second}",
    "A {noun} for the {second}",
    "The {noun} and the {second}",
    "{adjective} {noun}",
    "The {second}'s {noun}",
    "Notes from a {adjective} {noun}",
    "Understanding the {noun}",
)
SUBTITLES = ("A Novel", "Stories", "A Memoir", "An Introduction", "A Short History", "Essays", "A Guide for Beginners")
SENTENCES = (
    "When {author} first found the {noun}, nobody else believed that it had ever been there.",
    "This {adjective} account follows three generations through the years that changed their town.",
    "Between the {noun} and the {second} lies a question that has no easy answer, and this book refuses to give one.",
    "Drawn from letters, court records and long conversations, it reads like a story and argues like a proof.",
    "What begins as a quarrel over a {noun} becomes a {adjective} portrait of work, love and the price of both.",
    "Readers of every age will find something here, and teachers will find a whole year of lessons.",
    "With maps, tables and exercises, the chapters can be read in any order.",
    "A {adjective} book about the {second} that we carry with us, and about the things that we put down.",
    "Revised throughout, with a new foreword and a list of sources brought up to date.",
)
LANGUAGES = ("en",) * 16 + ("es", "fr", "de", "it")
LANGUAGE_CODES = {"eng": "en", "spa": "es", "fra": "fr", "fre": "fr", "deu": "de", "ger": "de", "ita": "it"}
LANGUAGE_NAMES = {"en": "English", "es": "Spanish", "fr": "French", "de": "German", "it": "Italian"}
BINDINGS = ("Hardcover",) * 4 + ("Paperback",) * 8 + ("Mass Market Paperback", "eBook", "Library Binding", "Audio CD")
MONTHS = _split("January February March April May June July August September October November December")
