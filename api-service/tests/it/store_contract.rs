//! What every implementation of a store trait must do: one body a trait, run over each backend.
//!
//! A new backend adds itself to [`backends`] and nothing else.

use std::time::Duration;

use api_service::accounts::{Account, PasswordHash};
use api_service::api_keys::{ActiveKey, ApiKey};
use api_service::cache::{Cache, MemoryCache};
use api_service::catalogue::Api;
use api_service::id::{AccountId, ApiId, KeyId, SessionId};
use api_service::page::PageRequest;
use api_service::secret::Secret;
use api_service::statistics::{DailyStatistics, TotalKey, TotalsQuery, Usage};
use api_service::store::sqlite::SqliteStore;
use api_service::store::{
    Accounts, ApiKeys, Catalogue, Error, Health, Removal, Revocations, Rotation, Sessions, SigningKeys,
    StoredRefreshToken, StoredSigningKey, Unique,
};
use bytes::Bytes;
use time::OffsetDateTime;

/// Each backend, empty. The folder lives as long as the stores.
async fn backends() -> (Vec<(&'static str, SqliteStore)>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite://{}?mode=rwc", folder.path().join("api.sqlite").display());
    let open = async |url: &str| SqliteStore::open(&url.parse().unwrap()).await.unwrap();
    (vec![("memory", open("sqlite::memory:").await), ("file", open(&file).await)], folder)
}

macro_rules! contract {
    ($name:ident, $body:path) => {
        #[tokio::test]
        async fn $name() {
            let (backends, _folder) = backends().await;
            for (name, store) in backends {
                println!("backend: {name}");
                $body(&store).await;
            }
        }
    };
}

contract!(accounts_keep_their_contract, accounts);
contract!(api_keys_keep_their_contract, api_keys);
contract!(the_catalogue_keeps_its_contract, catalogue);
contract!(sessions_keep_their_contract, sessions);
contract!(what_was_revoked_has_a_name_that_changes_with_it, revocations);
contract!(signing_keys_keep_their_contract, signing_keys);
contract!(statistics_keep_their_contract, statistics);

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn first<K>(limit: u32) -> PageRequest<K> {
    PageRequest { after: None, limit }
}

async fn account(store: &impl Accounts, name: &str) -> Account {
    let email = format!("{name}@example.com").parse().unwrap();
    let account =
        Account { id: AccountId::new(), email, name: Some("Ådå".to_owned()), registered_at: at(7) };
    store.insert(&account, &PasswordHash::stored(format!("hash of {name}"))).await.unwrap();
    account
}

async fn accounts(store: &(impl Accounts + Health)) {
    store.check().await.unwrap();
    let ada = account(store, "ada").await;
    assert_eq!(store.by_id(ada.id).await.unwrap(), Some(ada.clone()));
    assert_eq!(store.by_id(AccountId::new()).await.unwrap(), None);
    let (id, hash) = store.credentials(&ada.email).await.unwrap().unwrap();
    assert_eq!((id, hash.as_str()), (ada.id, "hash of ada"));
    assert!(store.credentials(&"bob@example.com".parse().unwrap()).await.unwrap().is_none());
    let again = Account { id: AccountId::new(), ..ada };
    let taken = store.insert(&again, &PasswordHash::stored(String::new())).await;
    assert!(matches!(taken, Err(Error::Taken(Unique::AccountEmail))), "{taken:?}");
}

async fn api_keys(store: &(impl Accounts + ApiKeys + Revocations)) {
    let (ada, bob) = (account(store, "ada").await.id, account(store, "bob").await.id);
    let key = |owner| ApiKey { id: KeyId::new(), owner, name: "k".to_owned(), created_at: at(7) };
    let digest = |text: &str| Secret::new(text).sha256();
    let (one, two) = (key(ada), key(ada));
    ApiKeys::insert(store, &one, &digest("one"), 2).await.unwrap();
    ApiKeys::insert(store, &two, &digest("two"), 2).await.unwrap();
    let full = ApiKeys::insert(store, &key(ada), &digest("three"), 2).await;
    assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
    ApiKeys::insert(store, &key(bob), &digest("bob's"), 2).await.unwrap();
    let orphan = ApiKeys::insert(store, &key(AccountId::new()), &digest("four"), 2).await;
    assert!(matches!(orphan, Err(Error::NoAccount)), "{orphan:?}");

    assert_eq!(
        store.list(ada, &first(1)).await.unwrap(),
        [one.clone(), two.clone()],
        "one more than the limit"
    );
    let rest = PageRequest { after: Some(one.id), limit: 5 };
    assert_eq!(store.list(ada, &rest).await.unwrap(), std::slice::from_ref(&two));

    let active = ActiveKey { owner: ada, id: one.id };
    assert_eq!(store.active(&digest("one")).await.unwrap(), Some(active));
    assert_eq!(store.active(&digest("unknown")).await.unwrap(), None);
    assert_eq!(store.revoke(bob, one.id, at(8)).await.unwrap(), None, "not his");
    assert_eq!(store.revoke(ada, one.id, at(8)).await.unwrap(), Some(digest("one")));
    assert_eq!(store.revoke(ada, one.id, at(8)).await.unwrap(), None, "revoked before");
    assert_eq!(store.active(&digest("one")).await.unwrap(), None);
    assert_eq!(store.revoked_keys(at(7)).await.unwrap(), [(one.id, at(8))]);
    assert_eq!(store.revoked_keys(at(8)).await.unwrap(), [], "not after that");
    assert_eq!(store.list(ada, &first(5)).await.unwrap(), [two]);
    // One was revoked; of 20 within the hour, each is told to every gateway.
    for number in 0..19 {
        let another = key(ada);
        ApiKeys::insert(store, &another, &digest(&format!("another {number}")), 2).await.unwrap();
        store.revoke(ada, another.id, at(8)).await.unwrap();
    }
    let full = ApiKeys::insert(store, &key(ada), &digest("one too many"), 2).await;
    assert!(matches!(full, Err(Error::Full("keys"))), "{full:?}");
    let later = ApiKey { created_at: at(8 + 3600), ..key(ada) };
    ApiKeys::insert(store, &later, &digest("later"), 2).await.unwrap();
}

async fn catalogue(store: &(impl Accounts + Catalogue)) {
    let (ada, bob) = (account(store, "ada").await.id, account(store, "bob").await.id);
    let api = |owner, name: &str| Api {
        id: ApiId::new(),
        owner,
        name: name.to_owned(),
        title: "T".to_owned(),
        description: String::new(),
        base_path: "/".to_owned(),
        published_at: at(7),
    };
    let (one, two) = (api(ada, "one"), api(bob, "two"));
    Catalogue::insert(store, &one, 1).await.unwrap();
    Catalogue::insert(store, &two, 1).await.unwrap();
    let full = Catalogue::insert(store, &api(ada, "three"), 1).await;
    assert!(matches!(full, Err(Error::Full(_))), "{full:?}");
    let taken = Catalogue::insert(store, &api(ada, "two"), 9).await;
    assert!(matches!(taken, Err(Error::Taken(Unique::ApiName))), "{taken:?}");
    let orphan = Catalogue::insert(store, &api(AccountId::new(), "four"), 9).await;
    assert!(matches!(orphan, Err(Error::NoAccount)), "{orphan:?}");

    assert_eq!(Catalogue::by_id(store, one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(Catalogue::list(store, &first(1)).await.unwrap(), [one.clone(), two.clone()]);
    let rest = PageRequest { after: Some(one.id), limit: 5 };
    assert_eq!(Catalogue::list(store, &rest).await.unwrap(), [two]);
    assert_eq!(store.remove(bob, one.id).await.unwrap(), Removal::NotOwner);
    assert_eq!(store.remove(ada, one.id).await.unwrap(), Removal::Removed);
    assert_eq!(store.remove(ada, one.id).await.unwrap(), Removal::Unknown);
    assert_eq!(Catalogue::by_id(store, one.id).await.unwrap(), None);
}

fn token(text: &str, expires_at: i64) -> StoredRefreshToken {
    StoredRefreshToken { digest: Secret::new(text).sha256(), expires_at: at(expires_at) }
}

async fn sessions(store: &(impl Accounts + Sessions + Revocations)) {
    let ada = account(store, "ada").await.id;
    let digest = |text: &str| Secret::new(text).sha256();
    let (one, two) = (SessionId::new(), SessionId::new());
    store.start(one, ada, &token("a", 100), at(0)).await.unwrap();
    store.start(two, ada, &token("x", 100), at(0)).await.unwrap();

    let rotated = store.rotate(&digest("a"), &token("b", 110), at(10)).await.unwrap();
    assert_eq!(rotated, Rotation::Rotated(ada, one));
    let unknown = store.rotate(&digest("unknown"), &token("c", 110), at(10)).await.unwrap();
    assert_eq!(unknown, Rotation::Refused);
    let expired = store.rotate(&digest("b"), &token("c", 300), at(110)).await.unwrap();
    assert_eq!(expired, Rotation::Refused, "expired, and no reuse");
    let rotated = store.rotate(&digest("b"), &token("c", 200), at(109)).await.unwrap();
    assert_eq!(rotated, Rotation::Rotated(ada, one));
    let reused = store.rotate(&digest("a"), &token("d", 200), at(109)).await.unwrap();
    assert_eq!(reused, Rotation::Reused(ada, one));
    let reused = store.rotate(&digest("a"), &token("d", 200), at(109)).await.unwrap();
    assert_eq!(reused, Rotation::Refused, "revoked already");
    let revoked = store.rotate(&digest("c"), &token("d", 200), at(109)).await.unwrap();
    assert_eq!(revoked, Rotation::Refused);

    assert_eq!(store.end(&digest("x"), at(50)).await.unwrap(), Some((ada, two)));
    assert_eq!(store.end(&digest("x"), at(50)).await.unwrap(), None);
    assert_eq!(store.end(&digest("unknown"), at(50)).await.unwrap(), None);
    let ended = store.rotate(&digest("x"), &token("y", 200), at(50)).await.unwrap();
    assert_eq!(ended, Rotation::Refused);
    let mut revoked = store.revoked_sessions(at(49)).await.unwrap();
    revoked.sort_unstable();
    assert_eq!(revoked, [(one, at(109)), (two, at(50))]);
    assert_eq!(store.revoked_sessions(at(50)).await.unwrap(), [(one, at(109))]);

    store.start(SessionId::new(), ada, &token("z", 400), at(300)).await.unwrap();
    assert_eq!(store.end(&digest("c"), at(300)).await.unwrap(), None, "run out, so forgotten");
}

async fn revocations(store: &(impl Accounts + ApiKeys + Sessions + Revocations)) {
    let ada = account(store, "ada").await.id;
    let digest = |text: &str| Secret::new(text).sha256();
    let key = || ApiKey { id: KeyId::new(), owner: ada, name: "k".to_owned(), created_at: at(0) };
    let (one, two) = (key(), key());
    let mut names = vec![store.version(at(0), at(0)).await.unwrap()];

    ApiKeys::insert(store, &one, &digest("one"), 9).await.unwrap();
    ApiKeys::insert(store, &two, &digest("two"), 9).await.unwrap();
    store.start(SessionId::new(), ada, &token("a", 100), at(0)).await.unwrap();
    store.start(SessionId::new(), ada, &token("x", 100), at(0)).await.unwrap();
    store.rotate(&digest("a"), &token("b", 110), at(5)).await.unwrap();
    assert_eq!(store.version(at(0), at(0)).await.unwrap(), names[0], "nothing was revoked");

    // All in the same second.
    store.revoke(ada, one.id, at(10)).await.unwrap();
    names.push(store.version(at(0), at(0)).await.unwrap());
    store.revoke(ada, two.id, at(10)).await.unwrap();
    names.push(store.version(at(0), at(0)).await.unwrap());
    store.end(&digest("x"), at(10)).await.unwrap();
    names.push(store.version(at(0), at(0)).await.unwrap());
    store.rotate(&digest("a"), &token("c", 110), at(10)).await.unwrap();
    names.push(store.version(at(0), at(0)).await.unwrap());
    store.revoke(ada, one.id, at(11)).await.unwrap();
    assert_eq!(store.version(at(9), at(9)).await.unwrap(), names[4], "what was revoked before");

    names.push(store.version(at(10), at(9)).await.unwrap());
    names.push(store.version(at(9), at(10)).await.unwrap());
    names.push(store.version(at(10), at(10)).await.unwrap());
    let different: std::collections::HashSet<_> = names.iter().collect();
    assert_eq!(different.len(), names.len(), "{names:?}");
}

#[tokio::test]
async fn a_restored_database_does_not_repeat_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let open = async |name: &str| {
        let url = format!("sqlite://{}?mode=rwc", file(name).display());
        SqliteStore::open(&url.parse().unwrap()).await.unwrap()
    };
    let store = open("a").await;
    let ada = account(&store, "ada").await.id;
    let key = ApiKey { id: KeyId::new(), owner: ada, name: "k".to_owned(), created_at: at(0) };
    ApiKeys::insert(&store, &key, &Secret::new("k").sha256(), 9).await.unwrap();
    store.close().await;
    std::fs::copy(file("a"), file("b")).unwrap();
    let (one, other) = (open("a").await, open("b").await);
    let version = async |store: &SqliteStore| store.version(at(0), at(0)).await.unwrap();
    assert_eq!(version(&one).await, version(&other).await);
    one.revoke(ada, key.id, at(10)).await.unwrap();
    other.revoke(ada, key.id, at(10)).await.unwrap();
    assert_ne!(version(&one).await, version(&other).await);
}

async fn signing_keys(store: &impl SigningKeys) {
    assert!(store.all().await.unwrap().is_empty());
    let key =
        |kid: &str| StoredSigningKey { kid: kid.to_owned(), pem: Secret::new("pem"), created_at: at(7) };
    store.insert_first(&key("one")).await.unwrap();
    store.insert_first(&key("two")).await.unwrap();
    let keys = store.all().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_eq!((keys[0].pem.expose(), keys[0].created_at), ("pem", at(7)));
}

async fn statistics(store: &impl DailyStatistics) {
    let (ada, bob) = (AccountId::new(), AccountId::new());
    let usage = |consumer, day: &str, api: &str, status, requests| Usage {
        consumer,
        day: day.parse().unwrap(),
        api: api.to_owned(),
        route: String::new(),
        status,
        requests,
    };
    for usage in [
        usage(ada, "2026-01-01", "a", 200, 1),
        usage(ada, "2026-01-01", "a", 200, 2),
        usage(ada, "2026-01-01", "a", 404, 4),
        usage(ada, "2026-01-01", "a", 500, 8),
        usage(ada, "2026-01-01", "b", 200, 16),
        usage(ada, "2026-01-02", "a", 200, 32),
        usage(bob, "2026-01-01", "a", 200, 64),
    ] {
        store.record(&usage).await.unwrap();
    }
    let query = |from: &str, to: &str, api: Option<&str>| TotalsQuery {
        consumer: ada,
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        api: api.map(str::to_owned),
    };
    let sums = async |query: TotalsQuery, page: PageRequest<TotalKey>| {
        let totals = store.totals(&query, &page).await.unwrap();
        totals
            .iter()
            .map(|total| (total.requests, total.client_errors, total.server_errors))
            .collect::<Vec<_>>()
    };
    let all = query("2026-01-01", "2026-01-02", None);
    assert_eq!(sums(all.clone(), first(9)).await, [(15, 4, 8), (16, 0, 0), (32, 0, 0)]);
    assert_eq!(sums(all.clone(), first(1)).await.len(), 2, "one more than the limit");
    let after = TotalKey { day: "2026-01-01".parse().unwrap(), api: "a".to_owned() };
    let rest = PageRequest { after: Some(after), limit: 9 };
    assert_eq!(sums(all, rest).await, [(16, 0, 0), (32, 0, 0)]);
    assert_eq!(sums(query("2026-01-02", "2026-01-09", None), first(9)).await, [(32, 0, 0)]);
    assert_eq!(sums(query("2026-01-01", "2026-01-02", Some("b")), first(9)).await, [(16, 0, 0)]);
}

#[tokio::test]
async fn caches_keep_their_contract() {
    cache(&MemoryCache::new(10)).await;
}

async fn cache(cache: &impl Cache) {
    let minute = Duration::from_secs(60);
    assert_eq!(cache.get("a").await, None);
    cache.put_if_absent("a", Bytes::from("one"), minute).await;
    cache.put_if_absent("a", Bytes::from("two"), minute).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("one")));
    cache.put("a", Bytes::from("three"), minute).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("three")));
    cache.put("a", Bytes::from("gone"), Duration::ZERO).await;
    assert_eq!(cache.get("a").await, None);
    cache.put_if_absent("a", Bytes::from("four"), minute).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("four")));
}
