"""Speech to text over the Wyoming protocol that adapts to the person who speaks."""

__version__ = "0.1.0"
