"""What the tests share: a scripted server, real nginx, the three colours, the leak check."""
