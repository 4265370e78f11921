"""The command `tevia`, beside the package, so that its help does not wait for what `import tevia_hf` loads."""
