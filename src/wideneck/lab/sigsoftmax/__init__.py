"""The reproduction of Sigsoftmax (Kanai et al. 2018), beside Parthiban et al. (AAAI 2021)."""

from wideneck.lab.option import Option

TAKES = ("scale", "model", "text")
OPTIONS: tuple[Option, ...] = ()
