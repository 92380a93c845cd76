// Package cost says how many KMS requests leases need, and what they cost. A test
// compares it with a simulation of Keepers, and docs/operations.md with it.
package cost

import "time"

// Price of KMS requests in US dollars, for symmetric keys and the operations that
// byok uses, as AWS published it in 2025 for most Regions; the 20 000 a month that are free
// are not counted. It varies: https://aws.amazon.com/kms/pricing/
const (
	Price = 0.03
	Per   = 10_000
)

// Month is what a month has in AWS's price examples.
const Month = 730 * time.Hour

// Requests returns how many KMS requests a fleet makes in d for data keys in constant
// use: dataKeys of them in each of processes, each used once per gap there. A tenant has
// one data key in use for each purpose, and more while it reads what older ones sealed.
//
// A lease is renewed by its first use after 45 to 55 % of maxAge, on average at a half,
// and the next use is half a gap away. What is used less often than every half of
// maxAge needs at most one request per use.
func Requests(dataKeys, processes int, maxAge, gap, d time.Duration) float64 {
	period := max(gap, (maxAge+gap)/2)
	return float64(dataKeys) * float64(processes) * float64(d) / float64(period)
}

// Dollars is the price of so many requests.
func Dollars(requests float64) float64 { return requests / Per * Price }
