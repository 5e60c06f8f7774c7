"""Torch modules. Nothing here touches a file, the network or the terminal."""
