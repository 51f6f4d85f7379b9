"""The state folder: files, locks and the store, written completely or not at all."""
