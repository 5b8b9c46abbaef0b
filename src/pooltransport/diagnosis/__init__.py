"""What the numbers of a pool mean: rules over values, without I/O but for one look at the kernel's tables."""
