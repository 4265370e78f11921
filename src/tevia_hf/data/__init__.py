"""Image, mask and sentence examples from synthetic images, public data sets and one's own folders."""

from tevia_hf.extras import needed_for

with needed_for("Reading data sets"):
    import datasets as datasets
    import pandas as pandas
from tevia_hf.data import figshare as figshare  # every process that reads its records needs its reader
