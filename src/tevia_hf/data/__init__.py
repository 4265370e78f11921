"""Examples of image, mask and text from synthetic data, public data sets and user folders."""

from tevia_hf.data import figshare as figshare  # registers the reader of its records in every process
