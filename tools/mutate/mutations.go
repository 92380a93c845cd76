package main

import "slices"

// mutations are the ways in which the code is broken, package by package. Each
// is a mistake that somebody could make in good faith, or a rule that somebody
// could think superfluous. docs/design.md numbers the invariants. Their order decides in which part one is.
var mutations = slices.Concat(ofKeeper, ofJobs, ofCrypto, ofRest)
