"""Gates: is this pattern fit to be printed? Pure functions from pixels to numbers; nothing here decides about a job,
but `checking`, and nothing touches a store, but `copy_index`."""
