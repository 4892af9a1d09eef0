"""What is trained beside the frozen base, or instead of an adapter: attach, count, save, load and merge it."""
