// Package byok is envelope encryption under customer-managed keys.
package byok
