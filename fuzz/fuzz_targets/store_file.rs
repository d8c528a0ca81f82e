//! The FORMAT file: any bytes behind right checksums are settings or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use milepost_engine::format::envelope::FileKind;
use milepost_engine::format::store_file::StoreSettings;
use milepost_fuzz::seal;

fuzz_target!(|data: &[u8]| {
    let _ = StoreSettings::decode(data);
    let file = seal::file(FileKind::Store, data);
    if let Ok((settings, writable)) = StoreSettings::decode(&file) {
        assert!(writable);
        assert_eq!(
            settings.encode().unwrap(),
            file,
            "what is accepted is canonical"
        );
    }
});
