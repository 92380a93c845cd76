//go:build !race

package floe

const raceDetector = false
