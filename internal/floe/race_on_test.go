//go:build race

package floe

const raceDetector = true // it takes memory of its own
