"""What a campaign learns on top of the frozen representation: a convex head, dense or with a sparse block beside it."""
