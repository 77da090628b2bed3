/* provision_identity.c - whom the machine trusts, and who logs in. See provision.h. */
#include "provision.h"

#include <lm.h>
#include <ntsecapi.h>
#include <wincrypt.h>

#define CERTIFICATE_LIMIT 65536u

typedef struct CERTIFICATES {
    HCERTSTORE(WINAPI *Open)(LPCSTR, DWORD, HCRYPTPROV_LEGACY, DWORD, const void *);
    BOOL(WINAPI *Add)(HCERTSTORE, DWORD, const BYTE *, DWORD, DWORD, PCCERT_CONTEXT *);
    PCCERT_CONTEXT(WINAPI *Context)(DWORD, const BYTE *, DWORD);
    PCCERT_CONTEXT(WINAPI *Find)(HCERTSTORE, DWORD, DWORD, DWORD, const void *, PCCERT_CONTEXT);
    BOOL(WINAPI *Free)(PCCERT_CONTEXT);
    BOOL(WINAPI *Close)(HCERTSTORE, DWORD);
} CERTIFICATES;

static int LoadCertificates(CERTIFICATES *certificates)
{
    HMODULE library = LoadLibraryW(L"crypt32.dll");

    if (library == NULL) {
        return 0;
    }
    certificates->Open = (void *)GetProcAddress(library, "CertOpenStore");
    certificates->Add = (void *)GetProcAddress(library, "CertAddEncodedCertificateToStore");
    certificates->Context = (void *)GetProcAddress(library, "CertCreateCertificateContext");
    certificates->Find = (void *)GetProcAddress(library, "CertFindCertificateInStore");
    certificates->Free = (void *)GetProcAddress(library, "CertFreeCertificateContext");
    certificates->Close = (void *)GetProcAddress(library, "CertCloseStore");
    return certificates->Open != NULL && certificates->Add != NULL && certificates->Context != NULL &&
           certificates->Find != NULL && certificates->Free != NULL && certificates->Close != NULL;
}

static int IsTrusted(const CERTIFICATES *certificates, HCERTSTORE store, PCCERT_CONTEXT wanted)
{
    PCCERT_CONTEXT found = certificates->Find(store, X509_ASN_ENCODING, 0, CERT_FIND_EXISTING, wanted, NULL);

    if (found != NULL) {
        certificates->Free(found);
    }
    return found != NULL;
}

static void TrustIn(REPORT *report, const CERTIFICATES *certificates, PCCERT_CONTEXT wanted, const char *name,
                    const WCHAR *wide)
{
    DWORD flags = CERT_SYSTEM_STORE_LOCAL_MACHINE | (report->check ? CERT_STORE_READONLY_FLAG : 0);
    HCERTSTORE store = certificates->Open(CERT_STORE_PROV_SYSTEM_W, 0, 0, flags, wide);
    int before, after;

    if (store == NULL) {
        ReportError(report, name, "the certificate", "open the store", GetLastError());
        return;
    }
    before = after = IsTrusted(certificates, store, wanted);
    if (!before && !report->check) {
        if (!certificates->Add(store, X509_ASN_ENCODING, wanted->pbCertEncoded, wanted->cbCertEncoded,
                               CERT_STORE_ADD_REPLACE_EXISTING, NULL)) {
            ReportError(report, name, "the certificate", "add the certificate", GetLastError());
            certificates->Close(store, 0);
            return;
        }
        report->changed = 1;
        after = IsTrusted(certificates, store, wanted);
    }
    ReportSetting(report, name, "the certificate", before ? "the certificate" : NULL, after ? "the certificate" : NULL, after,
                  NULL);
    certificates->Close(store, 0);
}

void ProvisionTrust(REPORT *report, const char *file)
{
    CERTIFICATES certificates;
    WCHAR *path = Wide(file);
    size_t size = 0;
    DWORD win32 = ERROR_NOT_ENOUGH_MEMORY;
    void *data = path == NULL ? NULL : ReadWhole(path, CERTIFICATE_LIMIT, &size, &win32);
    PCCERT_CONTEXT wanted = NULL;

    Free(path);
    if (data == NULL) {
        ReportError(report, "certificate", file, "read the file", win32);
    } else if (!LoadCertificates(&certificates)) {
        ReportError(report, "certificate", file, "load crypt32", GetLastError());
    } else if ((wanted = certificates.Context(X509_ASN_ENCODING, data, (DWORD)size)) == NULL) {
        ReportError(report, "certificate", file, "understand the file as a certificate (DER)", GetLastError());
    } else {
        TrustIn(report, &certificates, wanted, "Root", L"Root");
        TrustIn(report, &certificates, wanted, "TrustedPublisher", L"TrustedPublisher");
        certificates.Free(wanted);
    }
    Free(data);
}

typedef struct ACCOUNTS {
    NET_API_STATUS(NET_API_FUNCTION *GetInfo)(LPCWSTR, LPCWSTR, DWORD, LPBYTE *);
    NET_API_STATUS(NET_API_FUNCTION *SetInfo)(LPCWSTR, LPCWSTR, DWORD, LPBYTE, LPDWORD);
    NET_API_STATUS(NET_API_FUNCTION *AddMembers)(LPCWSTR, LPCWSTR, DWORD, LPBYTE, DWORD);
    NET_API_STATUS(NET_API_FUNCTION *FreeBuffer)(LPVOID);
    BOOL(WINAPI *SidFromText)(LPCWSTR, PSID *);
    BOOL(WINAPI *NameFromSid)(LPCWSTR, PSID, LPWSTR, LPDWORD, LPWSTR, LPDWORD, PSID_NAME_USE);
} ACCOUNTS;

static int LoadAccounts(ACCOUNTS *accounts)
{
    HMODULE net = LoadLibraryW(L"netapi32.dll");
    HMODULE security = LoadLibraryW(L"advapi32.dll");

    if (net == NULL || security == NULL) {
        return 0;
    }
    accounts->GetInfo = (void *)GetProcAddress(net, "NetUserGetInfo");
    accounts->SetInfo = (void *)GetProcAddress(net, "NetUserSetInfo");
    accounts->AddMembers = (void *)GetProcAddress(net, "NetLocalGroupAddMembers");
    accounts->FreeBuffer = (void *)GetProcAddress(net, "NetApiBufferFree");
    accounts->SidFromText = (void *)GetProcAddress(security, "ConvertStringSidToSidW");
    accounts->NameFromSid = (void *)GetProcAddress(security, "LookupAccountSidW");
    return accounts->GetInfo != NULL && accounts->SetInfo != NULL && accounts->AddMembers != NULL &&
           accounts->FreeBuffer != NULL && accounts->SidFromText != NULL && accounts->NameFromSid != NULL;
}

/* Flags and rank of a user; a Win32 code. */
static DWORD LookAtUser(const ACCOUNTS *accounts, const WCHAR *user, DWORD *flags, DWORD *privilege)
{
    USER_INFO_1 *info = NULL;
    DWORD win32 = accounts->GetInfo(NULL, user, 1, (LPBYTE *)&info);

    if (win32 == 0) {
        *flags = info->usri1_flags;
        *privilege = info->usri1_priv;
        accounts->FreeBuffer(info);
    }
    return win32;
}

/* The group of administrators has another name in each language; its SID is the same. */
static DWORD AddToAdministrators(const ACCOUNTS *accounts, WCHAR *user)
{
    LOCALGROUP_MEMBERS_INFO_3 member = {.lgrmi3_domainandname = user};
    WCHAR group[256], domain[256];
    DWORD groupLength = 256, domainLength = 256;
    SID_NAME_USE use;
    PSID sid = NULL;
    DWORD win32 = 0;

    if (!accounts->SidFromText(L"S-1-5-32-544", &sid) ||
        !accounts->NameFromSid(NULL, sid, group, &groupLength, domain, &domainLength, &use)) {
        win32 = GetLastError();
    } else {
        win32 = accounts->AddMembers(NULL, group, 3, (LPBYTE)&member, 1);
        win32 = win32 == ERROR_MEMBER_IN_ALIAS ? 0 : win32;
    }
    if (sid != NULL) {
        LocalFree(sid);
    }
    return win32;
}

void ProvisionAccount(REPORT *report, const char *user)
{
    ACCOUNTS accounts;
    WCHAR *wide = Wide(user);
    DWORD flags = 0, privilege = 0, before = 0;
    DWORD win32 = wide != NULL && LoadAccounts(&accounts) ? 0 : ERROR_PROC_NOT_FOUND;
    const char *tried = "load netapi32";

    if (win32 == 0 && GetProcAddress(GetModuleHandleW(L"ntdll.dll"), "wine_get_version") != NULL) {
        tried = "change an account here: Wine has no NetUserSetInfo";
        win32 = ERROR_CALL_NOT_IMPLEMENTED;
    }
    if (win32 == 0) {
        tried = "look at the account";
        win32 = LookAtUser(&accounts, wide, &before, &privilege);
    }
    if (win32 == 0 && !report->check && !(before & UF_DONT_EXPIRE_PASSWD)) {
        USER_INFO_1008 change = {.usri1008_flags = before | UF_DONT_EXPIRE_PASSWD};
        tried = "let its password live for ever";
        win32 = accounts.SetInfo(NULL, wide, 1008, (LPBYTE)&change, NULL);
        report->changed |= win32 == 0;
    }
    if (win32 == 0 && !report->check && privilege != USER_PRIV_ADMIN) {
        tried = "make it an administrator";
        win32 = AddToAdministrators(&accounts, wide);
        report->changed |= win32 == 0;
    }
    if (win32 == 0) {
        tried = "look at the account again";
        win32 = LookAtUser(&accounts, wide, &flags, &privilege);
    }
    if (win32 != 0) {
        ReportError(report, user, "an administrator", tried, win32);
    } else {
        ReportSetting(report, "password never expires", "yes", before & UF_DONT_EXPIRE_PASSWD ? "yes" : "no",
                      flags & UF_DONT_EXPIRE_PASSWD ? "yes" : "no", (flags & UF_DONT_EXPIRE_PASSWD) != 0, NULL);
        ReportSetting(report, "administrator", "yes", NULL, privilege == USER_PRIV_ADMIN ? "yes" : "no",
                      privilege == USER_PRIV_ADMIN, NULL);
    }
    Free(wide);
}

void ProvisionNoLogonSecret(REPORT *report)
{
    static WCHAR secret[] = L"DefaultPassword";
    LSA_UNICODE_STRING name = {.Length = sizeof(secret) - sizeof(WCHAR), .MaximumLength = sizeof(secret), .Buffer = secret};
    LSA_OBJECT_ATTRIBUTES attributes = {.Length = sizeof(attributes)};
    HMODULE library = LoadLibraryW(L"advapi32.dll");
    NTSTATUS(NTAPI * open)(PLSA_UNICODE_STRING, PLSA_OBJECT_ATTRIBUTES, ACCESS_MASK, PLSA_HANDLE) = NULL;
    NTSTATUS(NTAPI * store)(LSA_HANDLE, PLSA_UNICODE_STRING, PLSA_UNICODE_STRING) = NULL;
    NTSTATUS(NTAPI * close)(LSA_HANDLE) = NULL;
    LSA_HANDLE policy = NULL;
    NTSTATUS status = -1;

    if (report->check) {
        return; /* a secret cannot be looked at without being shown */
    }
    if (library != NULL) {
        open = (void *)GetProcAddress(library, "LsaOpenPolicy");
        store = (void *)GetProcAddress(library, "LsaStorePrivateData");
        close = (void *)GetProcAddress(library, "LsaClose");
    }
    if (open != NULL && store != NULL && close != NULL) {
        status = open(NULL, &attributes, POLICY_CREATE_SECRET, &policy);
        if (status >= 0) {
            status = store(policy, &name, NULL); /* NULL deletes it */
            close(policy);
        }
    }
    /* STATUS_OBJECT_NAME_NOT_FOUND: there was none */
    ReportSetting(report, "logon secret", "(not there)", NULL, NULL, status >= 0 || status == (NTSTATUS)0xC0000034,
                  status >= 0 || status == (NTSTATUS)0xC0000034 ? NULL : "LsaStorePrivateData refused to delete it");
}
