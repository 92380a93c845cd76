//go:build race

package byok_test

const raceDetector = true // it takes memory of its own
