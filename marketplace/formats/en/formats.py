"""How the console writes times: 24 hours and the zone, because every time of the market is UTC."""

DATE_FORMAT = "d M Y"
TIME_FORMAT = "H:i"
DATETIME_FORMAT = r"d M Y, H:i \U\T\C"
SHORT_DATETIME_FORMAT = DATETIME_FORMAT
