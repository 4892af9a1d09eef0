"""What a study leaves behind: records and their metrics, claims, items, and the store that writes and reads them."""
