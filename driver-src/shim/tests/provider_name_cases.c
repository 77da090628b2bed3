/*
 * provider_name_cases.c: names and addresses (rules NAME).
 */
#include "provider_client.h"

#define AI_NUMERICHOST_OF_WINDOWS 4
#define NI_NUMERIC_OF_WINDOWS (0x2u | 0x8u)
#define NI_NAMEREQD_OF_WINDOWS 0x4u

static UNICODE_STRING StringOf(PCWSTR text) {
    UNICODE_STRING string;
    RtlInitUnicodeString(&string, text);
    return string;
}

static NTSTATUS Resolve(TEST_CLIENT *client, PCWSTR node, PCWSTR service, PADDRINFOEXW hints, PADDRINFOEXW *result) {
    UNICODE_STRING nodeString, serviceString;
    OPERATION operation = {0};

    *result = NULL;
    if (node != NULL) {
        nodeString = StringOf(node);
    }
    if (service != NULL) {
        serviceString = StringOf(service);
    }
    CALL(&operation, client->Npi.Dispatch->WskGetAddressInfo(client->Npi.Client, node == NULL ? NULL : &nodeString,
                                                             service == NULL ? NULL : &serviceString, NS_ALL, NULL, hints, result, NULL, NULL,
                                                             IRP_OF));
    OperationEnd(&operation);
    CHECK_EQUAL(operation.Information, 0); /* NAME-005 */
    return operation.Status;
}

CASE(NumericNames) {
    TEST_CLIENT client;
    PADDRINFOEXW result;
    ADDRESS expected = AddressOf("127.0.0.1", 12345), expected6 = AddressOf("::1", 80);

    ClientBegin(&client);
    CHECK_STATUS(Resolve(&client, L"127.0.0.1", L"12345", NULL, &result), STATUS_SUCCESS); /* NAME-001 */
    CHECK(result->ai_family == AF_INET && result->ai_addrlen == 16 && memcmp(result->ai_addr, &expected, 16) == 0 && result->ai_next == NULL);
    client.Npi.Dispatch->WskFreeAddressInfo(client.Npi.Client, result);
    CHECK_STATUS(Resolve(&client, L"::1", L"80", NULL, &result), STATUS_SUCCESS);
    CHECK(result->ai_family == AF_INET6 && result->ai_addrlen == 28 && memcmp(result->ai_addr, &expected6, 28) == 0);
    client.Npi.Dispatch->WskFreeAddressInfo(client.Npi.Client, result);
    ClientEnd(&client);
}

CASE(UnknownNames) {
    TEST_CLIENT client;
    PADDRINFOEXW result;
    ADDRINFOEXW numeric = {.ai_flags = AI_NUMERICHOST_OF_WINDOWS};
    OPERATION operation = {0};
    UNICODE_STRING node = StringOf(L"127.0.0.1");
    NTSTATUS status;

    ClientBegin(&client);
    status = Resolve(&client, L"does-not-exist.invalid", NULL, NULL, &result);
    CHECK(status == STATUS_NOT_FOUND || status == STATUS_NO_MATCH); /* NAME-002 */
    CHECK(!NT_SUCCESS(Resolve(&client, L"localhost", NULL, &numeric, &result))); /* NAME-006 */
    CHECK(!NT_SUCCESS(Resolve(&client, NULL, NULL, NULL, &result)));
    CHECK_STATUS(client.Npi.Dispatch->WskGetAddressInfo(client.Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &result, NULL, NULL, NULL),
                 STATUS_INVALID_PARAMETER); /* NAME-003 */
    CALL(&operation, client.Npi.Dispatch->WskGetAddressInfo(client.Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &result, NULL,
                                                            PsGetCurrentThread(), IRP_OF));
    CHECK_STATUS(OperationEnd(&operation), STATUS_INVALID_PARAMETER); /* NAME-004 */
    ClientEnd(&client);
}

CASE(HintsRestrict) {
    TEST_CLIENT client;
    PADDRINFOEXW result;
    static const ADDRESS_FAMILY families[] = {AF_INET, AF_INET6};

    ClientBegin(&client);
    for (ULONG index = 0; index < RTL_NUMBER_OF(families); index++) {
        ADDRINFOEXW hints = {.ai_family = families[index], .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
        /* Without a node: an address of each family that is let in. */
        CHECK_STATUS(Resolve(&client, NULL, L"80", &hints, &result), STATUS_SUCCESS);
        for (PADDRINFOEXW one = result; one != NULL; one = one->ai_next) { /* NAME-006 */
            CHECK(one->ai_family == families[index] && one->ai_socktype == SOCK_STREAM && one->ai_protocol == IPPROTO_TCP);
        }
        client.Npi.Dispatch->WskFreeAddressInfo(client.Npi.Client, result);
    }
    ClientEnd(&client);
}

static NTSTATUS NameInfo(TEST_CLIENT *client, const ADDRESS *address, PUNICODE_STRING node, PUNICODE_STRING service, ULONG flags) {
    OPERATION operation = {0};
    ADDRESS copy = *address;
    CALL(&operation, client->Npi.Dispatch->WskGetNameInfo(client->Npi.Client, &copy.Any, 16, node, service, flags, NULL, NULL, IRP_OF));
    return OperationEnd(&operation);
}

CASE(NamesOfAddresses) {
    TEST_CLIENT client;
    WCHAR nodeBuffer[64], serviceBuffer[64];
    UNICODE_STRING node = {.MaximumLength = sizeof(nodeBuffer), .Buffer = nodeBuffer};
    UNICODE_STRING service = {.MaximumLength = sizeof(serviceBuffer), .Buffer = serviceBuffer};
    UNICODE_STRING small = {.MaximumLength = 4, .Buffer = nodeBuffer}, expected = StringOf(L"127.0.0.1"), web = StringOf(L"80");
    ADDRESS loopback = AddressOf("127.0.0.1", 80), nobody = AddressOf("192.0.2.1", 80);

    ClientBegin(&client);
    CHECK_STATUS(NameInfo(&client, &loopback, &node, &service, NI_NUMERIC_OF_WINDOWS), STATUS_SUCCESS); /* NAME-007 */
    CHECK(RtlEqualUnicodeString(&node, &expected, FALSE) && RtlEqualUnicodeString(&service, &web, FALSE));
    CHECK_STATUS(NameInfo(&client, &loopback, NULL, NULL, NI_NUMERIC_OF_WINDOWS), STATUS_INVALID_PARAMETER); /* NAME-008 */
    CHECK(!NT_SUCCESS(NameInfo(&client, &nobody, &node, NULL, NI_NAMEREQD_OF_WINDOWS)));
    CHECK(!NT_SUCCESS(NameInfo(&client, &loopback, &small, NULL, NI_NUMERIC_OF_WINDOWS)));
    ClientEnd(&client);
}

CASE(ManyLookupsAtOnce) {
    enum { COUNT = 50 };
    TEST_CLIENT client;
    PADDRINFOEXW results[COUNT] = {0};
    UNICODE_STRING node = StringOf(L"localhost");
    OPERATION operations[COUNT] = {0};

    ClientBegin(&client);
    for (ULONG index = 0; index < COUNT; index++) {
        CALL(&operations[index], client.Npi.Dispatch->WskGetAddressInfo(client.Npi.Client, &node, NULL, NS_ALL, NULL, NULL, &results[index],
                                                                        NULL, NULL, IRP_OF));
        if (index % 5 == 4) {
            IoCancelIrp(operations[index].Irp);
        }
    }
    for (ULONG index = 0; index < COUNT; index++) {
        NTSTATUS status = OperationEnd(&operations[index]); /* NAME-009 */
        CHECK(status == STATUS_SUCCESS || (status == STATUS_CANCELLED && index % 5 == 4));
        CHECK(NT_SUCCESS(status) == (results[index] != NULL));
        if (results[index] != NULL) {
            client.Npi.Dispatch->WskFreeAddressInfo(client.Npi.Client, results[index]);
        }
    }
    ClientEnd(&client);
}
