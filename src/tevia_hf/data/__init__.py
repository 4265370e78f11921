"""Examples of image, mask and text from synthetic data, public data sets and user folders."""

from tevia_hf.extras import needed_for

with needed_for("Reading data sets"):
    import datasets as datasets
    import pandas as pandas
from tevia_hf.data import figshare as figshare  # registers the reader of its records in every process
