"""boto3 against kmsfake: what a user of Python sees of each operation that boto3 1.26 knows.

usage: boto3_cases.py URL. Prints each failure, and at the end the count of cases.
"""
import datetime
import hashlib
import json
import sys

import boto3
import botocore.config
import botocore.exceptions
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

URL = sys.argv[1]
OWNER, STRANGER = "111122223333", "444455556666"
SILENT = ("InvalidCiphertextException", "KMSInvalidMacException", "KMSInvalidSignatureException")  # AWS says no more than that
cases, failures = 0, []


def client(account, region="us-east-1"):
    return boto3.client(
        "kms", endpoint_url=URL, region_name=region, aws_access_key_id=account, aws_secret_access_key="of-no-importance",
        config=botocore.config.Config(retries={"total_max_attempts": 1}))


def check(what, ok, got=None):
    global cases
    cases += 1
    if not ok:
        failures.append(what)
        print("FAIL", what, repr(got))


def equal(what, got, want):
    check("%s: want %r" % (what, want), got == want, got)


def fails(code, call, status=400, **args):
    """A call fails with the error, HTTP status and class of boto3 that AWS's answer gives."""
    name = call.__name__
    try:
        out = call(**args)
    except botocore.exceptions.ClientError as e:
        equal(name + " error", e.response["Error"]["Code"], code)
        equal(name + " status", e.response["ResponseMetadata"]["HTTPStatusCode"], status)
        check(name + " request id", len(e.response["ResponseMetadata"]["RequestId"]) == 36)
        message = e.response["Error"]["Message"]
        check(name + " message", (message == "") == (code in SILENT or name == "enable_key_rotation"), message)
        if code not in ("AccessDeniedException", "ValidationException", "ThrottlingException"):
            check(name + " class", type(e).__name__ == code, type(e).__name__)
        return
    check("%s fails with %s" % (name, code), False, out)


kms, stranger = client(OWNER), client(STRANGER)

# Life cycle.
made = kms.create_key(Description="a key", Tags=[{"TagKey": "a", "TagValue": "b"}])["KeyMetadata"]
key, key_id = made["Arn"], made["KeyId"]
check("dates are dates", isinstance(made["CreationDate"], datetime.datetime))
for member, want in {"KeyState": "Enabled", "Enabled": True, "KeyUsage": "ENCRYPT_DECRYPT", "KeySpec": "SYMMETRIC_DEFAULT", "Origin": "AWS_KMS",
                     "AWSAccountId": OWNER, "Description": "a key", "MultiRegion": False, "KeyManager": "CUSTOMER",
                     "EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"]}.items():
    equal("CreateKey " + member, made.get(member), want)
equal("DescribeKey by id", kms.describe_key(KeyId=key_id)["KeyMetadata"]["Arn"], key)
kms.update_key_description(KeyId=key, Description="another")
equal("UpdateKeyDescription", kms.describe_key(KeyId=key)["KeyMetadata"]["Description"], "another")
others = [kms.create_key()["KeyMetadata"]["Arn"] for _ in range(4)]
pages = list(kms.get_paginator("list_keys").paginate(PaginationConfig={"PageSize": 2}))
check("ListKeys in pages", len(pages) >= 3)
equal("ListKeys", {k["KeyArn"] for p in pages for k in p["Keys"]}, {key, *others})
fails("NotFoundException", kms.describe_key, KeyId="11111111-2222-3333-4444-555555555555")
fails("AccessDeniedException", stranger.describe_key, KeyId=key)
fails("ValidationException", kms.list_keys, Limit=2000)
fails("InvalidMarkerException", kms.list_keys, Marker="no-marker")

# Cryptography.
context = {"tenant": "acme", "ключ": "значение"}
sealed = kms.encrypt(KeyId=key, Plaintext=b"hello", EncryptionContext=context)
equal("Decrypt", kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)["Plaintext"], b"hello")
equal("Decrypt names the key", kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], EncryptionContext=context)["KeyId"], key)
blob = sealed["CiphertextBlob"]
fails("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob)
fails("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob, EncryptionContext={"tenan": "tacme", "ключ": "значение"})
fails("InvalidCiphertextException", kms.decrypt, CiphertextBlob=blob[:-1] + bytes([blob[-1] ^ 1]), EncryptionContext=context)
fails("IncorrectKeyException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=others[0])
fails("AccessDeniedException", stranger.decrypt, CiphertextBlob=blob, EncryptionContext=context)
moved = kms.re_encrypt(CiphertextBlob=blob, SourceEncryptionContext=context, DestinationKeyId=others[0])
equal("ReEncrypt", kms.decrypt(CiphertextBlob=moved["CiphertextBlob"])["Plaintext"], b"hello")
equal("ReEncrypt names both", (moved["SourceKeyId"], moved["KeyId"]), (key, others[0]))
data = kms.generate_data_key(KeyId=key, KeySpec="AES_256", EncryptionContext=context)
equal("GenerateDataKey", len(data["Plaintext"]), 32)
equal("its ciphertext", kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context)["Plaintext"], data["Plaintext"])
without = kms.generate_data_key_without_plaintext(KeyId=key, NumberOfBytes=64)
check("no plaintext", "Plaintext" not in without)
equal("of 64 bytes", len(kms.decrypt(CiphertextBlob=without["CiphertextBlob"])["Plaintext"]), 64)
equal("GenerateRandom", len(kms.generate_random(NumberOfBytes=24)["Plaintext"]), 24)
fails("ValidationException", kms.generate_data_key, KeyId=key)
fails("ValidationException", kms.encrypt, KeyId=key, Plaintext=b"x" * 4097)

# Asymmetric and HMAC keys, checked by another library.
signer = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["Arn"]
public = serialization.load_der_public_key(kms.get_public_key(KeyId=signer)["PublicKey"])
signature = kms.sign(KeyId=signer, Message=b"message", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
public.verify(signature, b"message", ec.ECDSA(hashes.SHA256()))  # raises if it is none
check("Sign", True)
digest = hashlib.sha256(b"message").digest()
equal("Verify", kms.verify(KeyId=signer, Message=digest, MessageType="DIGEST", Signature=signature, SigningAlgorithm="ECDSA_SHA_256")["SignatureValid"], True)
fails("KMSInvalidSignatureException", kms.verify, KeyId=signer, Message=b"other", Signature=signature, SigningAlgorithm="ECDSA_SHA_256")
fails("InvalidKeyUsageException", kms.encrypt, KeyId=signer, Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")
rsa = kms.create_key(KeySpec="RSA_2048", KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]["Arn"]
public = serialization.load_der_public_key(kms.get_public_key(KeyId=rsa)["PublicKey"])
oaep = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)
equal("RSA", kms.decrypt(KeyId=rsa, CiphertextBlob=public.encrypt(b"outside", oaep), EncryptionAlgorithm="RSAES_OAEP_SHA_256")["Plaintext"], b"outside")
mac_key = kms.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")["KeyMetadata"]["Arn"]
mac = kms.generate_mac(KeyId=mac_key, Message=b"message", MacAlgorithm="HMAC_SHA_256")["Mac"]
equal("VerifyMac", kms.verify_mac(KeyId=mac_key, Message=b"message", Mac=mac, MacAlgorithm="HMAC_SHA_256")["MacValid"], True)
fails("KMSInvalidMacException", kms.verify_mac, KeyId=mac_key, Message=b"other", Mac=mac, MacAlgorithm="HMAC_SHA_256")
pair = kms.generate_data_key_pair(KeyId=key, KeyPairSpec="ECC_NIST_P384")
private = serialization.load_der_private_key(pair["PrivateKeyPlaintext"], None)
equal("GenerateDataKeyPair", private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo), pair["PublicKey"])
equal("its ciphertext", kms.decrypt(CiphertextBlob=pair["PrivateKeyCiphertextBlob"])["Plaintext"], pair["PrivateKeyPlaintext"])

# Aliases.
kms.create_alias(AliasName="alias/a", TargetKeyId=key_id)
equal("by alias", kms.describe_key(KeyId="alias/a")["KeyMetadata"]["Arn"], key)
fails("AlreadyExistsException", kms.create_alias, AliasName="alias/a", TargetKeyId=key_id)
fails("ValidationException", kms.create_alias, AliasName="a b", TargetKeyId=key_id)
kms.update_alias(AliasName="alias/a", TargetKeyId=others[0])
equal("ListAliases", [a["AliasName"] for a in kms.list_aliases(KeyId=others[0])["Aliases"]], ["alias/a"])
kms.delete_alias(AliasName="alias/a")
fails("NotFoundException", kms.describe_key, KeyId="alias/a")

# Tags.
kms.tag_resource(KeyId=key, Tags=[{"TagKey": "c", "TagValue": "d"}])
equal("tags", {t["TagKey"]: t["TagValue"] for t in kms.list_resource_tags(KeyId=key)["Tags"]}, {"a": "b", "c": "d"})
kms.untag_resource(KeyId=key, TagKeys=["a"])
equal("a tag less", [t["TagKey"] for t in kms.list_resource_tags(KeyId=key)["Tags"]], ["c"])
fails("TagException", kms.tag_resource, KeyId=key, Tags=[{"TagKey": "aws:x", "TagValue": "y"}])

# Policies, and the other account.
policy = json.loads(kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"])
equal("policy names", kms.list_key_policies(KeyId=key)["PolicyNames"], ["default"])
policy["Statement"].append({"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::%s:root" % STRANGER}, "Action": "kms:Decrypt", "Resource": "*",
                            "Condition": {"StringEquals": {"kms:EncryptionContext:tenant": "acme"}}})
kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
equal("a stranger who may", stranger.decrypt(CiphertextBlob=blob, EncryptionContext=context, KeyId=key)["Plaintext"], b"hello")
fails("AccessDeniedException", stranger.encrypt, KeyId=key, Plaintext=b"x", EncryptionContext=context)
fails("MalformedPolicyDocumentException", kms.put_key_policy, KeyId=key, PolicyName="default", Policy="{}")
del policy["Statement"][-1]
kms.put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps(policy))
fails("AccessDeniedException", stranger.decrypt, CiphertextBlob=blob, EncryptionContext=context, KeyId=key)

# Grants.
grant = kms.create_grant(KeyId=key, GranteePrincipal="arn:aws:iam::%s:root" % STRANGER, Operations=["Decrypt", "RetireGrant"],
                         Constraints={"EncryptionContextSubset": {"tenant": "acme"}}, Name="g")
equal("a grantee", stranger.decrypt(CiphertextBlob=blob, EncryptionContext=context, GrantTokens=[grant["GrantToken"]])["Plaintext"], b"hello")
equal("ListGrants", [(g["GrantId"], g["Name"]) for g in kms.list_grants(KeyId=key)["Grants"]], [(grant["GrantId"], "g")])
kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])
fails("AccessDeniedException", stranger.decrypt, CiphertextBlob=blob, EncryptionContext=context)
fails("NotFoundException", kms.revoke_grant, KeyId=key, GrantId=grant["GrantId"])
grant = kms.create_grant(KeyId=key, GranteePrincipal="arn:aws:iam::%s:root" % OWNER, RetiringPrincipal="arn:aws:iam::%s:root" % OWNER, Operations=["Encrypt"])
equal("ListRetirableGrants", len(kms.list_retirable_grants(RetiringPrincipal="arn:aws:iam::%s:root" % OWNER)["Grants"]), 1)
kms.retire_grant(GrantToken=grant["GrantToken"])
equal("retired", kms.list_grants(KeyId=key)["Grants"], [])
fails("InvalidGrantTokenException", kms.encrypt, KeyId=key, Plaintext=b"x", GrantTokens=["none"])

# Rotation, states, deletion.
kms.enable_key_rotation(KeyId=key)
equal("rotation", kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], True)
kms.disable_key_rotation(KeyId=key)
equal("no rotation", kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"], False)
fails("UnsupportedOperationException", kms.enable_key_rotation, KeyId=signer)
kms.disable_key(KeyId=key)
fails("DisabledException", kms.encrypt, KeyId=key, Plaintext=b"x")
kms.enable_key(KeyId=key)
gone = kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
check("in 7 days", datetime.timedelta(days=6, hours=23) < gone["DeletionDate"] - datetime.datetime.now(datetime.timezone.utc) < datetime.timedelta(days=7, hours=1))
fails("KMSInvalidStateException", kms.decrypt, CiphertextBlob=blob, EncryptionContext=context)
kms.cancel_key_deletion(KeyId=key)
equal("cancelled", kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"], "Disabled")

# Imported material.
byok = kms.create_key(Origin="EXTERNAL")["KeyMetadata"]
equal("without material", byok["KeyState"], "PendingImport")
fails("KMSInvalidStateException", kms.encrypt, KeyId=byok["Arn"], Plaintext=b"x")
material = hashlib.sha256(b"the customer's own").digest()


def imports(raw, **more):
    p = kms.get_parameters_for_import(KeyId=byok["Arn"], WrappingAlgorithm="RSAES_OAEP_SHA_256", WrappingKeySpec="RSA_2048")
    wrapped = serialization.load_der_public_key(p["PublicKey"]).encrypt(raw, oaep)
    return dict(KeyId=byok["Arn"], ImportToken=p["ImportToken"], EncryptedKeyMaterial=wrapped, **more)


kms.import_key_material(**imports(material, ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE"))
own = kms.encrypt(KeyId=byok["Arn"], Plaintext=b"x")["CiphertextBlob"]
fails("IncorrectKeyMaterialException", kms.import_key_material, **imports(hashlib.sha256(b"another").digest(), ExpirationModel="KEY_MATERIAL_DOES_NOT_EXPIRE"))
kms.delete_imported_key_material(KeyId=byok["Arn"])
fails("KMSInvalidStateException", kms.decrypt, CiphertextBlob=own)
valid_to = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) + datetime.timedelta(days=1)
kms.import_key_material(**imports(material, ExpirationModel="KEY_MATERIAL_EXPIRES", ValidTo=valid_to))
equal("again", kms.decrypt(CiphertextBlob=own)["Plaintext"], b"x")
equal("until", kms.describe_key(KeyId=byok["Arn"])["KeyMetadata"]["ValidTo"], valid_to)

# Multi-Region keys, and Regions.
mrk = kms.create_key(MultiRegion=True)["KeyMetadata"]
west = client(OWNER, "eu-west-1")
kms.replicate_key(KeyId=mrk["KeyId"], ReplicaRegion="eu-west-1")
there = kms.encrypt(KeyId=mrk["KeyId"], Plaintext=b"abroad")["CiphertextBlob"]
equal("in the other Region", west.decrypt(CiphertextBlob=there)["Plaintext"], b"abroad")
equal("its kind", west.describe_key(KeyId=mrk["KeyId"])["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"], "REPLICA")
kms.update_primary_region(KeyId=mrk["KeyId"], PrimaryRegion="eu-west-1")
equal("and now", west.describe_key(KeyId=mrk["KeyId"])["KeyMetadata"]["MultiRegionConfiguration"]["MultiRegionKeyType"], "PRIMARY")
fails("NotFoundException", west.describe_key, KeyId=key_id)

# What the fake has not.
fails("UnsupportedOperationException", kms.describe_custom_key_stores)

print("%d cases, %d failures" % (cases, len(failures)))
sys.exit(1 if failures else 0)
