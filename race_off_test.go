//go:build !race

package byok_test

const raceDetector = false
