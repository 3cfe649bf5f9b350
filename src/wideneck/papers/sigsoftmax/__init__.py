"""The reproduction of Sigsoftmax (Kanai et al. 2018), beside Parthiban et al. (AAAI 2021)."""
