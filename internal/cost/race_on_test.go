//go:build race

package cost_test

const raceDetector = true // a fleet takes ten times as long with it, and shows nothing more
