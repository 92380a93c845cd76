//go:build !unix

package main

// onlyOurs does nothing here: files get their rights from the directory.
func onlyOurs() {}
