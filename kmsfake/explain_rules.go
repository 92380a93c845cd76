package kmsfake

// The rules, as an explanation says them.
const (
	ruleNotAcross = "The operation does not work across accounts, whatever a policy says."
	ruleUnseen    = "There is no such thing in this account and Region: it never was, or it was deleted. " +
		"AWS denies it in the words in which it denies what exists."

	ruleKeyDeny      = "An explicit deny in the key policy wins over everything."
	ruleIdentityDeny = "An explicit deny in an identity policy of the caller wins over every allow."

	ruleGrant     = "A grant to the caller is enough, at home and across accounts."
	ruleNamed     = "The key policy allows the caller itself, which is of the key's account: its identity policies are not needed."
	ruleRoot      = "The key policy allows the caller's account, and the caller is its root."
	ruleDelegated = "The key policy leaves it to the account, whose identity policies allow it."
	ruleBothSides = "Across accounts both sides must allow, and both do."
	ruleLenient   = "The caller has no identity policies, and without Options.StrictIAM its own account is then taken to allow."

	ruleKeyNone = "Neither the key policy nor a grant allows it. Without them nobody may use a key, " +
		"not even the account's root."
	ruleKeyNoneAcross = "Across accounts both sides must allow, and the key's does not: neither its policy nor a grant."
	ruleIdentityNone  = "The key policy leaves it to the account, and no identity policy of the caller allows it."

	ruleIdentityNoneAcross = "Across accounts both sides must allow, and the caller's does not: no identity policy of the caller."

	ruleOwnRoot     = "No key policy is asked, and root may do everything in its account."
	ruleOwnIdentity = "No key policy is asked, and an identity policy of the caller allows it."
	ruleOwnNone     = "No key policy is asked, and no identity policy of the caller allows it."

	ruleRetirePrincipal = "The caller is the grant's retiring principal, or its account's IAM lets it act as that."
	ruleRetireGrantee   = "The caller is the grantee, and the grant has the operation RetireGrant."
	ruleRetireIssuer    = "The caller's account created the grant."
	ruleRetireNone      = "A grant is retired by its retiring principal, by its grantee if it has the operation " +
		"RetireGrant, or by the account that created it; no policy alone allows it."
)
