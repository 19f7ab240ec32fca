"""Who plays in the demo world: invented companies, real universities as places, and where each of them stands.

Companies and buyers are invented. Universities are real places whose part here is simulated: they were not asked and
endorse nothing. No real name plays a scripted fault. Coordinates of campuses are those of their cities.
"""

from __future__ import annotations

from typing import NamedTuple

UNIVERSITY_NOTE = "fixture, simulated, no endorsement"
INVENTED_NOTE = "invented for the demo"


class Region(NamedTuple):
    """A data-centre city, looked up in the list of cloud regions by vendor and region."""

    site: str
    vendor: str
    region: str
    city: str


class Campus(NamedTuple):
    """A university by its name in the source list, placed at its city."""

    site: str
    university: str
    country: str
    city: str
    lat: float
    lon: float


class Actor(NamedTuple):
    """A provider: site, the three countries of control (ultimate parent, operator, keys), tier, standing, classes."""

    name: str
    kind: str
    site: str
    control: str
    tier: int
    standing: str
    classes: tuple[str, ...]


REGIONS = (
    Region("FRA", "alicloud", "eu-central-1", "Frankfurt"),
    Region("AMS", "upcloud", "nl-ams1", "Amsterdam"),
    Region("PAR", "aws", "eu-west-3", "Paris"),
    Region("STO", "aws", "eu-north-1", "Stockholm"),
    Region("MIL", "aws", "eu-south-1", "Milan"),
    Region("DUB", "aws", "eu-west-1", "Dublin"),
    Region("WAW", "azure", "polandcentral", "Warsaw"),
    Region("ZRH", "aws", "eu-central-2", "Zurich"),
    Region("LON", "alicloud", "eu-west-1", "London"),
    Region("OSL", "azure", "norwayeast", "Oslo"),
    Region("NYC", "upcloud", "us-nyc1", "New York"),
    Region("CHI", "azure", "northcentralus", "Chicago"),
    Region("DAL", "gcp", "1550", "Dallas"),
    Region("SJC", "upcloud", "us-sjo1", "San Jose"),
    Region("IAD", "gcp", "1270", "Ashburn"),
    Region("SIN", "alicloud", "ap-southeast-1", "Singapore"),
    Region("NUE", "hcloud", "2", "Nuremberg"),
    Region("SBG", "ovh", "SBG", "Strasbourg"),
    Region("TRN", "gcp", "1570", "Turin"),
    Region("YUL", "gcp", "1330", "Montréal"),
    Region("PHX", "azure", "westus3", "Phoenix"),
)

CAMPUSES = (
    Campus("U-DELFT", "Delft University of Technology", "NL", "Delft", 52.0116, 4.3571),
    Campus("U-TUM", "Technische Universität München", "DE", "Munich", 48.1486, 11.568),
    Campus("U-SORBONNE", "Sorbonne Université - Faculté des Sciences (Paris VI)", "FR", "Paris", 48.8467, 2.3546),
    Campus("U-KTH", "KTH Royal Institute of Technology", "SE", "Stockholm", 59.3498, 18.0707),
    Campus("U-BOLOGNA", "University of Bologna", "IT", "Bologna", 44.4949, 11.3426),
    Campus("U-UPM", "Universidad Politécnica de Madrid", "ES", "Madrid", 40.4489, -3.7191),
    Campus("U-AALTO", "Aalto University", "FI", "Espoo", 60.1841, 24.8301),
    Campus("U-TUWIEN", "Technische Universität Wien", "AT", "Vienna", 48.1986, 16.3699),
    Campus("U-ETHZ", "ETHZ - ETH Zurich", "CH", "Zurich", 47.3763, 8.5477),
    Campus("U-EDINBURGH", "University of Edinburgh", "GB", "Edinburgh", 55.9445, -3.1892),
    Campus("U-CHICAGO", "University of Chicago", "US", "Chicago", 41.7886, -87.5987),
    Campus("U-AUSTIN", "The University of Texas at Austin", "US", "Austin", 30.2849, -97.7341),
    Campus("U-COLUMBIA", "Columbia University", "US", "New York", 40.8075, -73.9626),
    Campus("U-BERKELEY", "University of California, Berkeley", "US", "Berkeley", 37.8719, -122.2585),
)

# Probing sites, none of them a provider's own campus: a provider is never measured from its own network.
VANTAGES = (
    Campus("V-AMS", "University of Amsterdam", "NL", "Amsterdam", 52.3676, 4.9041),
    Campus("V-FRA", "Johann Wolfgang Goethe Universität Frankfurt am Main", "DE", "Frankfurt", 50.1109, 8.6821),
    Campus("V-PAR", "Université Paris-Dauphine (Paris IX)", "FR", "Paris", 48.8700, 2.2730),
    Campus("V-MIL", "Polytechnic Institute of Milan", "IT", "Milan", 45.4781, 9.2276),
    Campus("V-NYC", "New York University", "US", "New York", 40.7295, -73.9965),
    Campus("V-CHI", "University of Illinois Chicago", "US", "Chicago", 41.8720, -87.6490),
    Campus("V-SFO", "Stanford University", "US", "Stanford", 37.4275, -122.1697),
    Campus("V-SIN", "National University of Singapore", "SG", "Singapore", 1.2966, 103.7764),
)

STAR, TWIN, CHEAP_OUTSIDER, EARLY_BIDDER = (
    "Nordlicht Rechenwerk", "Zirbelquell Compute", "Merlion Quay Compute", "Halmstrand Cloud")
DEAR_BIDDER, OWN_LAB = "Brackwater Systems", "Grove Lab (this machine)"

ENTERPRISES = (
    Actor(STAR, "enterprise", "FRA", "DE DE DE", 3, "PROVEN", ("B200", "H100-80")),
    Actor(TWIN, "enterprise", "ZRH", "CH CH CH", 1, "PROBATION", ("B200",)),
    Actor(EARLY_BIDDER, "enterprise", "AMS", "NL NL NL", 2, "PROVEN", ("H100-80", "L40S", "L4")),
    Actor("Breval Calcul", "enterprise", "PAR", "FR FR FR", 3, "PROVEN", ("H100-80", "A100-80", "L40S")),
    Actor("Skaldvik Hosting", "enterprise", "STO", "SE SE SE", 2, "PROVEN", ("H200", "L4")),
    Actor("Corriveno Data", "enterprise", "MIL", "IT IT IT", 2, "PROVEN", ("A100-80", "L4", "A10")),
    # A site in the EU under a parent outside it: what a residence rule alone lets through and a control rule stops.
    Actor("Larkhaven Compute Ireland", "enterprise", "DUB", "US IE US", 2, "PROVEN", ("H100-80", "H200")),
    Actor("Wislogrod Cloud", "enterprise", "WAW", "PL PL PL", 1, "PROBATION", ("L40S", "A10")),
    Actor(DEAR_BIDDER, "enterprise", "NYC", "US US US", 2, "PROVEN", ("B200", "H100-80", "A100-80")),
    Actor("Prairie Lantern Compute", "enterprise", "CHI", "US US US", 2, "PROVEN", ("H100-80", "L40S", "L4")),
    Actor("Coppermesa Cloud", "enterprise", "DAL", "US US US", 1, "PROVEN", ("A100-80", "A10", "L40S")),
    Actor("Tidewind Halls", "enterprise", "SJC", "US US US", 2, "PROVEN", ("H200", "L4", "L40S")),
    Actor("Ashgrove Potomac", "enterprise", "IAD", "US US US", 3, "PROVEN", ("H100-80", "H200")),
    Actor(CHEAP_OUTSIDER, "enterprise", "SIN", "SG SG SG", 1, "PROVEN", ("H100-80", "A100-80", "L40S")),
    Actor("Fjellsky Regnekraft", "enterprise", "OSL", "NO NO NO", 2, "PROVEN", ("A100-80", "L4")),
    Actor("Tamesis Array", "enterprise", "LON", "GB GB GB", 2, "PROVEN", ("H100-80", "A10")),
)

UNIVERSITIES = (
    Actor("", "university", "U-DELFT", "NL NL NL", 1, "PROVEN", ("A100-80", "RTX4090", "L4")),
    Actor("", "university", "U-TUM", "DE DE DE", 2, "PROVEN", ("A100-80", "L40S", "A10")),
    Actor("", "university", "U-SORBONNE", "FR FR FR", 1, "PROVEN", ("L4", "A10")),
    Actor("", "university", "U-KTH", "SE SE SE", 1, "PROVEN", ("H100-80", "A10")),
    Actor("", "university", "U-BOLOGNA", "IT IT IT", 1, "PROVEN", ("A100-80", "RTX4090")),
    Actor("", "university", "U-UPM", "ES ES ES", 1, "PROVEN", ("L40S", "RTX4090")),
    Actor("", "university", "U-AALTO", "FI FI FI", 1, "PROVEN", ("A100-80", "L4")),
    Actor("", "university", "U-TUWIEN", "AT AT AT", 1, "PROVEN", ("H200", "A10")),
    Actor("", "university", "U-ETHZ", "CH CH CH", 1, "PROVEN", ("H100-80", "RTX4090")),
    Actor("", "university", "U-EDINBURGH", "GB GB GB", 1, "PROBATION", ("A100-80",)),
    Actor("", "university", "U-CHICAGO", "US US US", 1, "PROVEN", ("A100-80", "A10", "RTX4090")),
    Actor("", "university", "U-AUSTIN", "US US US", 1, "PROVEN", ("H200", "RTX4090")),
    Actor("", "university", "U-COLUMBIA", "US US US", 1, "PROBATION", ("A100-80", "L4")),
    Actor("", "university", "U-BERKELEY", "US US US", 1, "PROVEN", ("A100-80", "L40S", "A10")),
)

PROSUMERS = (
    Actor("Werkraum Sieben", "prosumer", "NUE", "DE DE DE", 0, "REGISTERED", ("RTX4090",)),
    Actor("Atelier Quantille", "prosumer", "SBG", "FR FR FR", 0, "REGISTERED", ("RTX4090", "L4")),
    Actor("Officina Corvalis", "prosumer", "TRN", "IT IT IT", 0, "REGISTERED", ("RTX4090",)),
    Actor("Boréalune Studio", "prosumer", "YUL", "CA CA CA", 0, "REGISTERED", ("A10", "RTX4090")),
    Actor("Saguaro Shed", "prosumer", "PHX", "US US US", 0, "REGISTERED", ("RTX4090",)),
)

LAB = Actor(OWN_LAB, "lab", "LAB", "LU LU LU", 0, "PROVEN", ("CPU-CORE",))
LAB_CAMPUS = Campus("LAB", OWN_LAB, "LU", "Luxembourg", 49.6117, 6.1319)

# name | country | segment | ultimate parent's country where it differs
_BUYERS = """
Alderwyn Versicherung|DE|insurance
Braunfelder Maschinenbau|DE|manufacturing
Klinikverbund Seltenau|DE|health
Ostmark Energienetz|DE|energy
Institut Hohenquell|DE|research
Rabenstein Automotive|DE|automotive|US
Landesamt Weidenfurt|DE|public
Lichtermoor Medien|DE|media
Banque Orvanne|FR|finance
Laboratoires Sévrinel|FR|pharma
Ville de Montcaprice|FR|public
Aéro Valmistral|FR|aerospace
Institut Clairvoie|FR|research
Hôpitaux de Brissonne|FR|health
Studio Fauvelune|FR|media|US
Zeebrand Logistiek|NL|logistics
Polderbank Nieuwmeer|NL|finance
Gemeente Lindendam|NL|public
Tulpveld Genomics|NL|pharma
Meetlint Robotics|NL|manufacturing
Assicura Belvento|IT|insurance
Officine Montelupara|IT|manufacturing
Ospedale Santa Verdiana|IT|health
Regione Colledoro|IT|public
Aceria Valdemora|ES|manufacturing
Banco Ribaluz|ES|finance
Instituto Marazul|ES|research
Telefonía Cantosol|ES|telecom
Norrsken Gruvor|SE|mining
Vintervik Pharma|SE|pharma
Myndigheten Björkudd|SE|public
Sisukas Forestry Data|FI|forestry
Järvenranta Health Registry|FI|health
Mazurska Telekom|PL|telecom
Bank Złotowierzb|PL|finance
Donaublick Versicherung|AT|insurance
Alpenrain Seismik|AT|research
Scheldewind Chemie|BE|chemicals
Havneby Shipping|DK|logistics
Ballyrowan Medical Devices|IE|health|US
Prahova Agrotech|RO|agriculture
Vltavín Animation|CZ|media
Acropoint Maritime|GR|logistics
Tejoverde Utilities|PT|energy
Harrowgate Mutual|US|insurance
Cedar Vale Health System|US|health
Brightwater Biologics|US|pharma
Lone Pine Robotics|US|manufacturing
Union Prairie Rail|US|logistics
Cascadia Weather Trust|US|research
Magnolia County Records|US|public
Silverbrook Capital|US|finance
Redstone Mesa Observatory|US|research
Bluegrass Grid Cooperative|US|energy
Harborlight Pictures|US|media
Northfork Seed|US|agriculture
Palisade Legal Discovery|US|legal
Ironwood Aerostructures|US|aerospace|FR
Lakeshore Speech Labs|US|software
Sandhill Retail Group|US|retail
Granite State Telecom|US|telecom
Juniper Flats Genomics|US|pharma
Alpsegel Privatbank|CH|finance
Kanton Rosenhalden Archiv|CH|public
Thornbury Actuarial|GB|insurance
Moorwick Diagnostics|GB|health
Fjordvarme Energi|NO|energy
Hokuyo Kagaku|JP|chemicals
Mapleridge Insurance|CA|insurance
Straits Lantern Shipping|SG|logistics
Hanbit Vision|KR|software
Kowhai Bay Fisheries|NZ|agriculture
"""


def buyers() -> list[tuple[str, str, str, str]]:
    """Name, country, segment and ultimate parent's country of each invented buyer."""
    rows = [line.split("|") for line in _BUYERS.strip().splitlines()]
    return [(row[0], row[1], row[2], row[3] if len(row) > 3 else row[1]) for row in rows]


def actors() -> list[Actor]:
    """All providers in their fixed order; a university takes the name of its campus."""
    names = {campus.site: f"{campus.university} (simulated)" for campus in CAMPUSES}
    universities = [actor._replace(name=names[actor.site]) for actor in UNIVERSITIES]
    return [*ENTERPRISES, *universities, *PROSUMERS, LAB]
