"""The outside worlds that events come from and go to: one file or folder each."""
