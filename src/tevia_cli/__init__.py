"""The command `tevia`, outside the package so that its help does not wait for `import tevia_hf`."""
