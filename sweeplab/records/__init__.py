"""The files of a study: records, what was asked, claims, results by item; and the store that writes and reads them."""
