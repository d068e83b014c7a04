"""MARC's code of a language, from what ISBNdb sends: an ISO 639 code, a locale or an English name."""

from functools import lru_cache

UNKNOWN = "und"

# ISO 639-1 code, MARC code (and the other three-letter code), English names. From ISO 639-2 of Debian's iso-codes.
_TABLE = """
aa aar Afar | ab abk Abkhazian | ae ave Avestan | af afr Afrikaans | ak aka Akan | am amh Amharic | an arg Aragonese
| ar ara Arabic | as asm Assamese | av ava Avaric | ay aym Aymara | az aze Azerbaijani | ba bak Bashkir | be bel
Belarusian | bg bul Bulgarian | bh bih Bihari languages | bi bis Bislama | bm bam Bambara | bn ben Bengali | bo
tib=bod Tibetan | br bre Breton | bs bos Bosnian | ca cat Catalan=Valencian | ce che Chechen | ch cha Chamorro | co
cos Corsican | cr cre Cree | cs cze=ces Czech | cu chu Church Slavic=Old Slavonic=Church Slavonic=Old Bulgarian=Old
Church Slavonic | cv chv Chuvash | cy wel=cym Welsh | da dan Danish | de ger=deu German | dv div
Divehi=Dhivehi=Maldivian | dz dzo Dzongkha | ee ewe Ewe | el gre=ell Greek=Modern Greek | en eng English | eo epo
Esperanto | es spa Spanish=Castilian | et est Estonian | eu baq=eus Basque | fa per=fas Persian=Farsi | ff ful Fulah
| fi fin Finnish | fj fij Fijian | fo fao Faroese | fr fre=fra French | fy fry Western Frisian=Frisian | ga gle
Irish | gd gla Gaelic=Scottish Gaelic | gl glg Galician | gn grn Guarani | gu guj Gujarati | gv glv Manx | ha hau
Hausa | he heb Hebrew | hi hin Hindi | ho hmo Hiri Motu | hr hrv Croatian | ht hat Haitian=Haitian Creole | hu hun
Hungarian | hy arm=hye Armenian | hz her Herero | ia ina Interlingua | id ind Indonesian | ie ile
Interlingue=Occidental | ig ibo Igbo | ii iii Sichuan Yi=Nuosu | ik ipk Inupiaq | io ido Ido | is ice=isl Icelandic
| it ita Italian | iu iku Inuktitut | ja jpn Japanese | jv jav Javanese | ka geo=kat Georgian | kg kon Kongo | ki
kik Kikuyu=Gikuyu | kj kua Kuanyama=Kwanyama | kk kaz Kazakh | kl kal Kalaallisut=Greenlandic | km khm Central
Khmer=Khmer | kn kan Kannada | ko kor Korean | kr kau Kanuri | ks kas Kashmiri | ku kur Kurdish | kv kom Komi | kw
cor Cornish | ky kir Kirghiz=Kyrgyz | la lat Latin | lb ltz Luxembourgish=Letzeburgesch | lg lug Ganda | li lim
Limburgan=Limburger=Limburgish | ln lin Lingala | lo lao Lao | lt lit Lithuanian | lu lub Luba-Katanga | lv lav
Latvian | mg mlg Malagasy | mh mah Marshallese | mi mao=mri Maori | mk mac=mkd Macedonian | ml mal Malayalam | mn
mon Mongolian | mr mar Marathi | ms may=msa Malay | mt mlt Maltese | my bur=mya Burmese | na nau Nauru | nb nob
Bokmål=Norwegian Bokmål | nd nde North Ndebele | ne nep Nepali | ng ndo Ndonga | nl dut=nld Dutch=Flemish | nn nno
Norwegian Nynorsk=Nynorsk | no nor Norwegian | nr nbl South Ndebele | nv nav Navajo=Navaho | ny nya
Chichewa=Chewa=Nyanja | oc oci Occitan=Provençal | oj oji Ojibwa | om orm Oromo | or ori Oriya | os oss
Ossetian=Ossetic | pa pan Panjabi=Punjabi | pi pli Pali | pl pol Polish | ps pus Pushto=Pashto | pt por Portuguese |
qu que Quechua | rm roh Romansh | rn run Rundi | ro rum=ron Romanian=Moldavian=Moldovan | ru rus Russian | rw kin
Kinyarwanda | sa san Sanskrit | sc srd Sardinian | sd snd Sindhi | se sme Northern Sami=Sami | sg sag Sango | si sin
Sinhala=Sinhalese | sk slo=slk Slovak | sl slv Slovenian=Slovene | sm smo Samoan | sn sna Shona | so som Somali | sq
alb=sqi Albanian | sr srp Serbian | ss ssw Swati | st sot Sotho | su sun Sundanese | sv swe Swedish | sw swa Swahili
| ta tam Tamil | te tel Telugu | tg tgk Tajik | th tha Thai | ti tir Tigrinya | tk tuk Turkmen | tl tgl Tagalog | tn
tsn Tswana | to ton Tonga | tr tur Turkish | ts tso Tsonga | tt tat Tatar | tw twi Twi | ty tah Tahitian | ug uig
Uighur=Uyghur | uk ukr Ukrainian | ur urd Urdu | uz uzb Uzbek | ve ven Venda | vi vie Vietnamese | vo vol Volapük |
wa wln Walloon | wo wol Wolof | xh xho Xhosa | yi yid Yiddish | yo yor Yoruba | za zha Zhuang=Chuang | zh chi=zho
Chinese=Mandarin | zu zul Zulu | - ang Old English | - enm Middle English | - fil Filipino=Pilipino | - grc Ancient
Greek | - mul Multiple languages=Multilingual | - nds Low German
"""


def _codes() -> dict[str, str]:
    codes: dict[str, str] = {}
    for entry in " ".join(_TABLE.split()).split(" | "):
        short, three, names = entry.split(" ", 2)
        marc, *others = three.split("=")
        codes |= dict.fromkeys([short, marc, *others, *names.casefold().split("=")], marc)
    return codes


_CODES = _codes()


@lru_cache(maxsize=1000)
def marc_language(language: str) -> str:
    """The code of MARC 21 ("eng") for "en", "en_US", "eng" or "English"; UNKNOWN for anything else."""
    wanted = language.strip().casefold()
    return _CODES.get(wanted) or _CODES.get(wanted.replace("_", "-").partition("-")[0], UNKNOWN)
